import { makeCanvas } from "./dom.js";

/** What a mask is drawn in; only its opacity counts. */
export const MASK_COLOR = "#ff2d78";

const ROWS_AT_A_TIME = 256;

/**
 * @typedef {object} Stroke
 * @property {"stroke"} kind
 * @property {boolean} erase
 * @property {number} diameter In pixels of the image.
 * @property {number[]} points x and y in turns, in pixels of the image.
 */

/**
 * @typedef {object} MaskFile A mask that was opened, instead of all that was there before.
 * @property {"file"} kind
 * @property {Blob} file White is painted.
 * @property {HTMLCanvasElement} preview Drawn in MASK_COLOR, as large as the mask that is shown.
 */

/** @typedef {Stroke | MaskFile | {kind: "clear"} | {kind: "invert"}} Operation */

/**
 * Draw an operation over what the ones before it left.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Operation} operation
 * @param {number} scale Pixels of the canvas for one of the image.
 * @param {HTMLCanvasElement | null} drawn A mask file at the size of the canvas, instead of its preview.
 */
export function draw(context, operation, scale, drawn = null) {
  const { width, height } = context.canvas;
  context.save();
  context.fillStyle = MASK_COLOR;
  switch (operation.kind) {
    case "stroke":
      drawStroke(context, operation, 0, scale);
      break;
    case "invert":
      context.globalCompositeOperation = "xor";
      context.fillRect(0, 0, width, height);
      break;
    case "clear":
      context.clearRect(0, 0, width, height);
      break;
    case "file":
      context.clearRect(0, 0, width, height);
      context.drawImage(drawn ?? operation.preview, 0, 0, width, height);
  }
  context.restore();
}

/**
 * Draw a stroke from one of its points on.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Stroke} stroke
 * @param {number} first Index of the first point.
 * @param {number} scale Pixels of the canvas for one of the image.
 */
export function drawStroke(context, stroke, first, scale) {
  const { points } = stroke;
  context.save();
  context.scale(scale, scale);
  context.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
  context.strokeStyle = MASK_COLOR;
  context.lineWidth = stroke.diameter;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  context.moveTo(points[2 * first], points[2 * first + 1]);
  // A line without length would not be drawn at all by some browsers.
  context.lineTo(points[2 * first] + 0.01, points[2 * first + 1]);
  for (let index = 2 * first + 2; index < points.length; index += 2) {
    context.lineTo(points[index], points[index + 1]);
  }
  context.stroke();
  context.restore();
}

/**
 * Whether an operation makes those before it irrelevant.
 *
 * @param {Operation} operation
 */
export function replacesAll(operation) {
  return operation.kind === "clear" || operation.kind === "file";
}

/**
 * Draw a mask, of which white is painted, so that its opacity says what is painted.
 *
 * @param {CanvasImageSource} mask
 * @param {number} width
 * @param {number} height
 * @returns {HTMLCanvasElement}
 */
export function opacityOf(mask, width, height) {
  const { canvas, context } = makeCanvas(width, height, true);
  context.drawImage(mask, 0, 0, canvas.width, canvas.height);
  for (let top = 0; top < canvas.height; top += ROWS_AT_A_TIME) {
    const rows = Math.min(ROWS_AT_A_TIME, canvas.height - top);
    const part = context.getImageData(0, top, canvas.width, rows);
    brightnessToOpacity(part.data);
    context.putImageData(part, 0, top);
  }
  context.globalCompositeOperation = "source-in";
  context.fillStyle = MASK_COLOR;
  context.fillRect(0, 0, canvas.width, canvas.height);
  return canvas;
}

/** @param {Uint8ClampedArray} pixels Red, green, blue and opacity in turns. */
function brightnessToOpacity(pixels) {
  for (let index = 0; index < pixels.length; index += 4) {
    const brightness = 0.299 * pixels[index] + 0.587 * pixels[index + 1] + 0.114 * pixels[index + 2];
    pixels[index + 3] = (brightness * pixels[index + 3]) / 255;
  }
}

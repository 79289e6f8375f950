import { contextOf, makeCanvas } from "./dom.js";
import { MASK_COLOR } from "./operations.js";

const TINT = 0.45;
const LIGHT = "#ffffff";
const DARK = "#14142b";
const LIGHT_WIDTH = 2;
const DARK_WIDTH = 4;

/** @typedef {{x: number, y: number, width: number, height: number}} Place */

/**
 * Shows a mask over an image: translucent, with an outline in two tones, one of which shows on any image.
 */
export class Overlay {
  /** The mask as large as it is shown: scaled once for each frame, since that takes longest. */
  #shape = makeCanvas(1, 1).canvas;
  #outline = makeCanvas(1, 1).canvas;
  #layer = makeCanvas(1, 1).canvas;

  /**
   * @param {CanvasRenderingContext2D} context In pixels of the screen's own.
   * @param {HTMLCanvasElement} mask
   * @param {Place} place Where the mask lies.
   * @param {number} ratio Pixels of the context for one of the page.
   */
  draw(context, mask, { x, y, width, height }, ratio) {
    cleared(this.#shape, context.canvas).drawImage(mask, x, y, width, height);
    context.save();
    context.globalAlpha = TINT;
    context.drawImage(this.#shape, 0, 0);
    context.restore();
    this.#drawOutline(ratio);
    context.drawImage(this.#outline, 0, 0);
  }

  /** @param {number} ratio */
  #drawOutline(ratio) {
    const outline = cleared(this.#outline, this.#shape);
    drawGrown(outline, this.#shape, Math.round(DARK_WIDTH * ratio), DARK);
    drawGrown(cleared(this.#layer, this.#shape), this.#shape, Math.round(LIGHT_WIDTH * ratio), LIGHT);
    outline.drawImage(this.#layer, 0, 0);
    outline.globalCompositeOperation = "destination-out";
    outline.drawImage(this.#shape, 0, 0);
    outline.globalCompositeOperation = "source-over";
  }
}

/**
 * Tint what lies between the image and the margins that will be painted beyond it.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Place} inner
 * @param {Place} outer
 */
export function drawMargins(context, inner, outer) {
  context.save();
  context.beginPath();
  context.rect(outer.x, outer.y, outer.width, outer.height);
  context.rect(inner.x, inner.y, inner.width, inner.height);
  context.globalAlpha = TINT;
  context.fillStyle = MASK_COLOR;
  context.fill("evenodd");
  context.restore();
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {HTMLCanvasElement} like
 */
function cleared(canvas, like) {
  if (canvas.width !== like.width || canvas.height !== like.height) {
    canvas.width = like.width;
    canvas.height = like.height;
  }
  const context = contextOf(canvas);
  context.clearRect(0, 0, canvas.width, canvas.height);
  return context;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {HTMLCanvasElement} shape
 * @param {number} reach Whole pixels.
 * @param {string} color
 */
function drawGrown(context, shape, reach, color) {
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    context.drawImage(shape, dx * reach, dy * reach);
  }
  context.globalCompositeOperation = "source-in";
  context.fillStyle = color;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  context.globalCompositeOperation = "source-over";
}

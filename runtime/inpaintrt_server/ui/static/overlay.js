import { contextOf, makeCanvas } from "./dom.js";
import { MASK_COLOR } from "./operations.js";

const TINT = 0.45;
const LIGHT = "#ffffff";
const DARK = "#14142b";
const LIGHT_WIDTH = 2;
const DARK_WIDTH = 3.5;

/** @typedef {{x: number, y: number, width: number, height: number}} Place */

/**
 * Shows a mask over an image: translucent, with an outline in two tones, one of which shows on any image.
 */
export class Overlay {
  #outline = makeCanvas(1, 1).canvas;
  #layer = makeCanvas(1, 1).canvas;

  /**
   * @param {CanvasRenderingContext2D} context In pixels of the screen's own.
   * @param {HTMLCanvasElement} mask
   * @param {Place} place Where the mask lies.
   * @param {number} ratio Pixels of the context for one of the page.
   */
  draw(context, mask, place, ratio) {
    context.save();
    context.globalAlpha = TINT;
    drawAt(context, mask, place, 0, 0);
    context.restore();
    this.#drawOutline(context.canvas, mask, place, ratio);
    context.drawImage(this.#outline, 0, 0);
  }

  /**
   * @param {HTMLCanvasElement} view
   * @param {HTMLCanvasElement} mask
   * @param {Place} place
   * @param {number} ratio
   */
  #drawOutline(view, mask, place, ratio) {
    const outline = cleared(this.#outline, view);
    drawGrown(outline, mask, place, DARK_WIDTH * ratio, DARK);
    const layer = cleared(this.#layer, view);
    drawGrown(layer, mask, place, LIGHT_WIDTH * ratio, LIGHT);
    outline.drawImage(this.#layer, 0, 0);
    outline.globalCompositeOperation = "destination-out";
    drawAt(outline, mask, place, 0, 0);
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
 * @param {HTMLCanvasElement} mask
 * @param {Place} place
 * @param {number} dx
 * @param {number} dy
 */
function drawAt(context, mask, { x, y, width, height }, dx, dy) {
  context.drawImage(mask, x + dx, y + dy, width, height);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {HTMLCanvasElement} mask
 * @param {Place} place
 * @param {number} reach
 * @param {string} color
 */
function drawGrown(context, mask, place, reach, color) {
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    drawAt(context, mask, place, dx * reach, dy * reach);
  }
  context.globalCompositeOperation = "source-in";
  context.fillStyle = color;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  context.globalCompositeOperation = "source-over";
}

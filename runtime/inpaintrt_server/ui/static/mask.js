import { intoPng, makeCanvas } from "./dom.js";
import { previewScale } from "./images.js";
import { draw, drawStroke, opacityOf, replacesAll } from "./operations.js";
import { PageError } from "./words.js";

/** @typedef {import("./operations.js").Operation} Operation */

const OPERATIONS_BEFORE_A_SNAPSHOT = 48;
const MAX_FILES = 4;

/**
 * What is painted over an image. It is kept as a list of strokes, which is drawn small to be shown, and at the
 * size of the image when it is sent: so undoing costs no memory, whatever the size of the image.
 */
export class Mask {
  /** @type {Operation[]} */
  #done = [];
  /** @type {Operation[]} */
  #undone = [];
  /** @type {{count: number, canvas: HTMLCanvasElement} | null} */
  #snapshot = null;
  #context;
  #scale;

  /**
   * @param {number} width Of the image, in pixels.
   * @param {number} height Of the image, in pixels.
   * @param {() => void} onChange Called after each change.
   */
  constructor(width, height, onChange) {
    this.width = width;
    this.height = height;
    this.onChange = onChange;
    this.#scale = previewScale(width, height);
    const { canvas, context } = makeCanvas(width * this.#scale, height * this.#scale);
    this.canvas = canvas;
    this.#context = context;
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  get isEmpty() {
    const { width, height } = this.canvas;
    const { context } = makeCanvas(width, height, true);
    context.drawImage(this.canvas, 0, 0);
    const pixels = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
    return pixels.every((pixel) => pixel === 0);
  }

  /**
   * Begin a stroke with its first point.
   *
   * @param {number} x In pixels of the image.
   * @param {number} y In pixels of the image.
   * @param {number} diameter In pixels of the image.
   * @param {boolean} erase
   * @returns {import("./operations.js").Stroke}
   */
  begin(x, y, diameter, erase) {
    /** @type {import("./operations.js").Stroke} */
    const stroke = { kind: "stroke", erase, diameter, points: [x, y] };
    this.#add(stroke);
    return stroke;
  }

  /**
   * Lengthen the stroke that was begun last, unless it was undone meanwhile.
   *
   * @param {import("./operations.js").Stroke} stroke
   * @param {number} x In pixels of the image.
   * @param {number} y In pixels of the image.
   */
  extend(stroke, x, y) {
    if (this.#done.at(-1) !== stroke) {
      return;
    }
    stroke.points.push(x, y);
    drawStroke(this.#context, stroke, stroke.points.length / 2 - 2, this.#scale);
    this.onChange();
  }

  clear() {
    this.#add({ kind: "clear" });
  }

  invert() {
    this.#add({ kind: "invert" });
  }

  /**
   * Replace everything by a mask in a file, white where it is painted.
   *
   * @param {import("./images.js").OpenedImage} opened
   * @throws {PageError} It does not have the size of the image.
   */
  replace(opened) {
    if (opened.width !== this.width || opened.height !== this.height) {
      throw new PageError(
        `The mask is ${opened.width} x ${opened.height}, the image ${this.width} x ${this.height}: ` +
          "they must have the same size.",
      );
    }
    const preview = opacityOf(opened.preview, this.canvas.width, this.canvas.height);
    this.#add({ kind: "file", file: opened.file, preview });
    this.#forgetOldFiles();
  }

  undo() {
    const operation = this.#done.pop();
    if (operation !== undefined) {
      this.#undone.push(operation);
      this.#redraw();
    }
  }

  redo() {
    const operation = this.#undone.pop();
    if (operation !== undefined) {
      this.#done.push(operation);
      this.#apply(operation);
    }
  }

  /** Take the last stroke back as if it had never been begun. */
  drop() {
    this.#done.pop();
    this.#redraw();
  }

  /**
   * The mask as a file of the image's size: white is painted, black is kept.
   *
   * @returns {Promise<Blob>}
   */
  async toPng() {
    const { canvas, context } = makeCanvas(this.width, this.height);
    for (const operation of this.#done.slice(this.#firstThatCounts())) {
      draw(context, operation, 1, operation.kind === "file" ? await this.#atFullSize(operation) : null);
    }
    fill(context, "source-in", "white");
    fill(context, "destination-over", "black");
    return await intoPng(canvas);
  }

  /** @param {import("./operations.js").MaskFile} operation */
  async #atFullSize({ file, preview }) {
    return this.#scale === 1 ? preview : opacityOf(await createImageBitmap(file), this.width, this.height);
  }

  #firstThatCounts() {
    return Math.max(0, this.#done.findLastIndex(replacesAll));
  }

  /** @param {Operation} operation */
  #add(operation) {
    this.#undone = [];
    this.#done.push(operation);
    this.#apply(operation);
    this.#keepSnapshot();
  }

  /** @param {Operation} operation */
  #apply(operation) {
    draw(this.#context, operation, this.#scale);
    this.onChange();
  }

  #redraw() {
    const { width, height } = this.canvas;
    if (this.#snapshot !== null && this.#snapshot.count > this.#done.length) {
      this.#snapshot = null;
    }
    this.#context.clearRect(0, 0, width, height);
    if (this.#snapshot !== null) {
      this.#context.drawImage(this.#snapshot.canvas, 0, 0);
    }
    const first = Math.max(this.#firstThatCounts(), this.#snapshot?.count ?? 0);
    for (const operation of this.#done.slice(first)) {
      draw(this.#context, operation, this.#scale);
    }
    this.onChange();
  }

  /** Keep a copy from time to time, so that undoing does not draw hundreds of strokes. */
  #keepSnapshot() {
    const count = this.#done.length - 1;
    if (count - (this.#snapshot?.count ?? 0) < OPERATIONS_BEFORE_A_SNAPSHOT) {
      return;
    }
    const last = this.#done.pop();
    this.#redraw();
    const { canvas, context } = makeCanvas(this.canvas.width, this.canvas.height);
    context.drawImage(this.canvas, 0, 0);
    this.#snapshot = { count, canvas };
    if (last !== undefined) {
      this.#done.push(last);
      this.#apply(last);
    }
  }

  #forgetOldFiles() {
    const files = this.#done.flatMap((operation, index) => (operation.kind === "file" ? [index] : []));
    if (files.length > MAX_FILES) {
      this.#done.splice(0, files[files.length - MAX_FILES]);
      this.#snapshot = null;
    }
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {GlobalCompositeOperation} operation
 * @param {string} color
 */
function fill(context, operation, color) {
  context.globalCompositeOperation = operation;
  context.fillStyle = color;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
}

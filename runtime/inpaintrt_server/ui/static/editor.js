import { contextOf } from "./dom.js";
import { closeImage } from "./images.js";
import { Mask } from "./mask.js";
import { drawMargins, Overlay } from "./overlay.js";
import { Viewport } from "./viewport.js";

const MAX_PIXEL_RATIO = 2;
const PADDING = 12;
/** From here on single pixels are shown. */
const SHARP_ZOOM = 8;
const FIRST_BRUSH = 1 / 10;
const LARGEST_BRUSH = 1 / 2;
export const ZOOM_STEP = 1.25;

/** @typedef {import("./images.js").OpenedImage} OpenedImage */
/** @typedef {[left: number, top: number, right: number, bottom: number]} Margins */

/** An image, the mask that is painted over it, and the view of both. */
export class Editor {
  /** @type {OpenedImage | null} */
  image = null;
  /** @type {Mask | null} */
  mask = null;
  erasing = false;
  /** Diameter in pixels of the image. */
  brush = 1;
  viewport = new Viewport();
  /** @type {Margins} */
  #margins = [0, 0, 0, 0];
  #overlay = new Overlay();
  #context;
  #frame = 0;
  #fitted = true;

  /**
   * @param {HTMLCanvasElement} canvas Where both are shown.
   * @param {HTMLElement} cursor Shows how large the brush is.
   * @param {() => void} onChange Called after the image, the mask or a tool changed.
   */
  constructor(canvas, cursor, onChange) {
    this.canvas = canvas;
    this.cursor = cursor;
    this.onChange = onChange;
    this.#context = contextOf(canvas);
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  /** @returns {number} The largest brush, in pixels of the image. */
  get largestBrush() {
    return Math.max(2, Math.round(Math.max(this.image?.width ?? 0, this.image?.height ?? 0) * LARGEST_BRUSH));
  }

  /**
   * Show another image, with nothing painted over it.
   *
   * @param {OpenedImage} image The editor closes it.
   */
  open(image) {
    if (this.image !== null) {
      closeImage(this.image);
    }
    this.image = image;
    this.mask = new Mask(image.width, image.height, () => this.#changed());
    this.brush = Math.max(1, Math.round(Math.max(image.width, image.height) * FIRST_BRUSH));
    this.fit();
    this.onChange();
  }

  /** @param {number} diameter In pixels of the image. */
  resizeBrush(diameter) {
    this.brush = Math.min(this.largestBrush, Math.max(1, Math.round(diameter)));
    this.onChange();
  }

  /** @param {boolean} erasing */
  chooseTool(erasing) {
    this.erasing = erasing;
    this.onChange();
  }

  /** @param {Margins} margins What will be painted beyond the image, in its pixels. */
  showMargins(margins) {
    this.#margins = margins;
    this.fit();
  }

  fit() {
    const area = this.#area();
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (area !== null && width > 0 && height > 0) {
      this.viewport.fit(area, width - 2 * PADDING, height - 2 * PADDING);
      this.viewport.pan(PADDING, PADDING);
      this.#fitted = true;
      this.draw();
    }
  }

  /**
   * @param {number} factor
   * @param {number} [x] In pixels of the view; its middle where it is not given.
   * @param {number} [y]
   */
  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    this.viewport.zoom(factor, x, y);
    this.#moved();
  }

  /**
   * @param {number} dx In pixels of the view.
   * @param {number} dy
   */
  pan(dx, dy) {
    this.viewport.pan(dx, dy);
    this.#moved();
  }

  /** Draw with the next frame. */
  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#drawNow();
    });
  }

  #moved() {
    this.#fitted = false;
    this.draw();
  }

  #changed() {
    this.draw();
    this.onChange();
  }

  #area() {
    if (this.image === null) {
      return null;
    }
    const [left, top, right, bottom] = this.#margins;
    return { left: -left, top: -top, right: this.image.width + right, bottom: this.image.height + bottom };
  }

  #ratio() {
    return Math.min(MAX_PIXEL_RATIO, globalThis.devicePixelRatio || 1);
  }

  #resize() {
    const ratio = this.#ratio();
    const { clientWidth, clientHeight } = this.canvas;
    if (clientWidth === 0 || clientHeight === 0) {
      return;
    }
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    if (this.#fitted) {
      this.fit();
    }
    this.draw();
  }

  #drawNow() {
    const context = this.#context;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const area = this.#area();
    if (this.image === null || this.mask === null || area === null) {
      return;
    }
    const { width, height } = this.image;
    const place = this.#placeOf({ left: 0, top: 0, right: width, bottom: height });
    this.#drawImage(this.image, place);
    if (this.#margins.some((margin) => margin > 0)) {
      drawMargins(context, place, this.#placeOf(area));
    }
    this.#overlay.draw(context, this.mask.canvas, place, this.#ratio());
  }

  /** @param {import("./viewport.js").Rectangle} area In pixels of the image. */
  #placeOf(area) {
    const { scale, x, y } = this.viewport;
    const ratio = this.#ratio();
    return {
      x: (x + area.left * scale) * ratio,
      y: (y + area.top * scale) * ratio,
      width: (area.right - area.left) * scale * ratio,
      height: (area.bottom - area.top) * scale * ratio,
    };
  }

  /**
   * Draw the small copy while that is sharp enough, else the part of the image that is in view.
   *
   * @param {OpenedImage} image
   * @param {import("./overlay.js").Place} place
   */
  #drawImage({ element, preview, width }, place) {
    const context = this.#context;
    const scale = place.width / width;
    context.imageSmoothingEnabled = scale < SHARP_ZOOM;
    if (preview.width === width || place.width <= preview.width) {
      context.drawImage(preview, place.x, place.y, place.width, place.height);
      return;
    }
    const [left, top] = [-place.x / scale, -place.y / scale];
    const [seenWidth, seenHeight] = [this.canvas.width / scale, this.canvas.height / scale];
    context.drawImage(element, left, top, seenWidth, seenHeight, 0, 0, this.canvas.width, this.canvas.height);
  }
}

const MAX_ZOOM = 32;
const MIN_ZOOM_OF_FIT = 0.5;

/** @typedef {{left: number, top: number, right: number, bottom: number}} Rectangle */

/** Which part of the image is in view, and how large. */
export class Viewport {
  /** Pixels of the screen for one of the image. */
  scale = 1;
  /** Where the image's left top corner is, in pixels of the screen. */
  x = 0;
  y = 0;
  #fitted = 1;

  /**
   * Show a rectangle as a whole, in the middle.
   *
   * @param {Rectangle} area In pixels of the image.
   * @param {number} width Of the view.
   * @param {number} height Of the view.
   */
  fit(area, width, height) {
    const [areaWidth, areaHeight] = [area.right - area.left, area.bottom - area.top];
    this.scale = this.#fitted = Math.min(width / areaWidth, height / areaHeight, MAX_ZOOM);
    this.x = (width - areaWidth * this.scale) / 2 - area.left * this.scale;
    this.y = (height - areaHeight * this.scale) / 2 - area.top * this.scale;
  }

  /**
   * Zoom so that a point of the view stays where it is.
   *
   * @param {number} factor
   * @param {number} x
   * @param {number} y
   */
  zoom(factor, x, y) {
    const minimum = Math.min(this.#fitted * MIN_ZOOM_OF_FIT, 1);
    const scale = Math.min(MAX_ZOOM, Math.max(minimum, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
  }

  /**
   * @param {number} dx
   * @param {number} dy
   */
  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
  }

  /**
   * A point of the view in pixels of the image.
   *
   * @param {number} x
   * @param {number} y
   * @returns {[number, number]}
   */
  toImage(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }
}

import { byId } from "./dom.js";

/** @typedef {import("./editor.js").Margins} Margins */
/**
 * @typedef {object} Original
 * @property {string | null} url Null where there was no image.
 * @property {number} width
 * @property {number} height
 * @property {Margins} margins
 */

/** Shows a result, and under it what it was made of: a slider uncovers it. */
export class Compare {
  #frame = byId("compare-frame", HTMLDivElement);
  #after = byId("after", HTMLImageElement);
  #before = byId("before", HTMLImageElement);
  #slider = byId("compare-slider", HTMLInputElement);
  #divider = byId("divider", HTMLDivElement);
  #compared = true;

  constructor() {
    this.#slider.addEventListener("input", () => this.#uncover());
    for (const name of /** @type {const} */ (["pointerdown", "pointermove"])) {
      this.#frame.addEventListener(name, (event) => this.#drag(event));
    }
  }

  /**
   * @param {string} url Of the result.
   * @param {string} description
   * @param {Original} original
   */
  show(url, description, original) {
    const [left, top, right, bottom] = original.margins;
    const width = original.width + left + right;
    const height = original.height + top + bottom;
    this.#frame.style.aspectRatio = `${width} / ${height}`;
    this.#frame.style.setProperty("--proportion", String(width / height));
    this.#place(original, width, height);
    this.#setOriginal(original.url);
    this.#after.src = url;
    this.#after.alt = description;
  }

  /** @param {string | null} url Without one there is nothing to compare with. */
  #setOriginal(url) {
    this.#compared = url !== null;
    byId("compare", HTMLLabelElement).hidden = this.#before.hidden = url === null;
    if (url === null) {
      this.#before.removeAttribute("src");
      this.reset();
    } else {
      this.#before.src = url;
    }
  }

  /** Show the whole result. */
  reset() {
    this.#slider.value = "0";
    this.#uncover();
  }

  /**
   * @param {Original} original
   * @param {number} width Of the result.
   * @param {number} height Of the result.
   */
  #place(original, width, height) {
    const [left, top] = original.margins;
    Object.assign(this.#before.style, {
      left: percent(left, width),
      top: percent(top, height),
      width: percent(original.width, width),
      height: percent(original.height, height),
    });
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    if (event.buttons !== 1 || !this.#compared) {
      return;
    }
    event.preventDefault();
    this.#frame.setPointerCapture(event.pointerId);
    const { left, width } = this.#frame.getBoundingClientRect();
    this.#slider.value = String(Math.round(((event.clientX - left) / width) * 100));
    this.#uncover();
  }

  #uncover() {
    this.#divider.hidden = this.#slider.value === "0";
    this.#frame.style.setProperty("--uncovered", `${this.#slider.value}%`);
  }
}

/**
 * @param {number} part
 * @param {number} whole
 */
function percent(part, whole) {
  return `${(part / whole) * 100}%`;
}

import { Compare } from "./compare.js";
import { byId } from "./dom.js";

const NARROW = "(max-width: 60rem)";

/** @typedef {import("./results.js").Before} Before */
/** @typedef {import("./results.js").Result} Result */

/** The two views of the large area: the image with its mask, and a result. */
export class Views {
  #editor = byId("editor-view", HTMLElement);
  #result = byId("result-view", HTMLElement);
  #toEditor = byId("show-editor", HTMLButtonElement);
  #toResult = byId("show-result", HTMLButtonElement);
  #actions = byId("result-actions", HTMLElement);
  #compare = new Compare();
  /** @type {{url: string, before: string | null} | null} */
  #preview = null;

  constructor() {
    this.#toEditor.addEventListener("click", () => this.showEditor());
    this.#toResult.addEventListener("click", () => this.#show(true));
  }

  showEditor() {
    this.#show(false);
  }

  /** @param {Result} result */
  showResult(result) {
    const { before, prompt } = result;
    this.#forgetPreview();
    this.#compare.reset();
    this.#compare.show(result.url, `Result: ${prompt || "no prompt"}`, { url: result.beforeUrl, ...before });
    byId("result-summary", HTMLElement).textContent = result.summary;
    byId("result-warnings", HTMLElement).textContent = result.warnings.join(" ");
    this.#actions.hidden = false;
    this.#toResult.disabled = false;
    this.#show(true);
  }

  /**
   * @param {Blob} blob
   * @param {Before} before
   * @param {{step: number, total: number}} progress
   */
  showPreview(blob, before, { step, total }) {
    const original = this.#preview?.before ?? (before.file && URL.createObjectURL(before.file));
    if (this.#preview !== null) {
      URL.revokeObjectURL(this.#preview.url);
    }
    this.#preview = { url: URL.createObjectURL(blob), before: original };
    this.#compare.show(this.#preview.url, `Preview after step ${step} of ${total}`, { ...before, url: original });
    byId("result-summary", HTMLElement).textContent = `Preview after step ${step} of ${total}`;
    byId("result-warnings", HTMLElement).textContent = "";
    this.#actions.hidden = true;
    this.#toResult.disabled = false;
    this.#show(true);
  }

  /**
   * After a run that brought no result: show the last one instead of its preview.
   *
   * @param {Result | null} last
   * @returns {boolean} Whether a preview was shown.
   */
  leavePreview(last) {
    const shown = this.#preview !== null;
    if (shown && last !== null) {
      this.showResult(last);
    }
    this.#toResult.disabled = last === null;
    this.#forgetPreview();
    return shown;
  }

  /** On a narrow screen the result is above what people look at. */
  bringResultIntoView() {
    if (matchMedia(NARROW).matches) {
      this.#result.scrollIntoView({ block: "start" });
    }
  }

  /** @param {boolean} result */
  #show(result) {
    this.#editor.hidden = result;
    this.#result.hidden = !result;
    this.#toEditor.setAttribute("aria-pressed", String(!result));
    this.#toResult.setAttribute("aria-pressed", String(result));
  }

  #forgetPreview() {
    if (this.#preview !== null) {
      URL.revokeObjectURL(this.#preview.url);
      if (this.#preview.before !== null) {
        URL.revokeObjectURL(this.#preview.before);
      }
      this.#preview = null;
    }
  }
}

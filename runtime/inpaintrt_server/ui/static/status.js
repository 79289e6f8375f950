import { byId } from "./dom.js";

/** What the page says beside the form: progress, and what went wrong. */
export class Status {
  #alert = byId("alert", HTMLParagraphElement);
  #text = byId("status", HTMLParagraphElement);
  #progress = byId("progress", HTMLProgressElement);

  /** @param {string} text What went wrong. */
  warn(text) {
    this.clear();
    this.#alert.textContent = text;
    this.#alert.scrollIntoView({ block: "nearest" });
  }

  /** @param {string} text */
  say(text) {
    this.clear();
    this.#text.textContent = text;
  }

  /**
   * @param {string} text
   * @param {number | null} [done] Steps; null while it is not known how many there are.
   * @param {number} [total]
   */
  showProgress(text, done = null, total = 1) {
    this.say(text);
    this.#progress.hidden = false;
    this.#progress.max = total;
    if (done === null) {
      this.#progress.removeAttribute("value");
    } else {
      this.#progress.value = done;
    }
  }

  clear() {
    this.#alert.textContent = this.#text.textContent = "";
    this.#progress.hidden = true;
  }
}

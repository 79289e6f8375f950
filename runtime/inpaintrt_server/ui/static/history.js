import { byId } from "./dom.js";
import { forget } from "./results.js";

const MAX_RESULTS = 24;
const MAX_BYTES = 256 * 1024 * 1024;

/** @typedef {import("./results.js").Result} Result */

/** The newest results of this visit, newest first. */
export class History {
  /** @type {Result[]} */
  #results = [];
  /** @type {Result | null} */
  #selected = null;
  #list = byId("history", HTMLOListElement);

  /** @param {(result: Result) => void} onSelect Called when one is chosen. */
  constructor(onSelect) {
    this.onSelect = onSelect;
  }

  /** @returns {Result | null} The one that is shown. */
  get selected() {
    return this.#selected;
  }

  /**
   * Put results in front, and forget the oldest.
   *
   * @param {Result[]} results In the order of the server's answer, not empty.
   */
  add(results) {
    this.#results.unshift(...results);
    let bytes = 0;
    const kept = this.#results.findIndex((result, index) => {
      bytes += result.blob.size;
      return index >= MAX_RESULTS || (bytes > MAX_BYTES && index >= results.length);
    });
    if (kept >= 0) {
      this.#results.splice(kept).forEach(forget);
    }
    this.#select(this.#results[0]);
  }

  /** @param {Result} result */
  #select(result) {
    this.#selected = result;
    this.#list.replaceChildren(...this.#results.map((each) => this.#item(each)));
    byId("history-view", HTMLElement).hidden = false;
    this.onSelect(result);
  }

  /** @param {Result} result */
  #item(result) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", `Show the result: ${result.prompt || "no prompt"}, seed ${result.seed}`);
    button.setAttribute("aria-pressed", String(result === this.#selected));
    const image = new Image();
    image.src = result.thumbnail;
    image.alt = "";
    button.append(image);
    button.addEventListener("click", () => this.#choose(result));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  /** @param {Result} result */
  #choose(result) {
    this.#select(result);
    // The list was made again: stay at the same place of it.
    this.#list.querySelectorAll("button")[this.#results.indexOf(result)].focus();
  }
}

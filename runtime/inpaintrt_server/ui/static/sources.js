import { byId } from "./dom.js";

/** The ways to open an image: the button, dropping a file, and pasting one. */
export class Sources {
  /** @param {(file: File) => void} onFile */
  constructor(onFile) {
    this.onFile = onFile;
    byId("image-file", HTMLInputElement).addEventListener("change", (event) => this.#choose(event));
    for (const id of ["open", "open-2"]) {
      byId(id, HTMLButtonElement).addEventListener("click", () => byId("image-file", HTMLInputElement).click());
    }
    byId("load-mask", HTMLButtonElement).addEventListener("click", () => byId("mask-file", HTMLInputElement).click());
    document.addEventListener("paste", (event) => this.#take(event, event.clipboardData));
    document.addEventListener("drop", (event) => this.#drop(event));
    document.addEventListener("dragover", (event) => this.#dragOver(event));
    document.addEventListener("dragleave", (event) => this.#highlight(event.relatedTarget !== null));
  }

  /** @param {Event} event */
  #choose(event) {
    const input = /** @type {HTMLInputElement} */ (event.target);
    const file = input.files?.[0];
    input.value = ""; // So that the same file can be chosen again.
    if (file !== undefined) {
      this.onFile(file);
    }
  }

  /** @param {DragEvent} event */
  #drop(event) {
    this.#highlight(false);
    this.#take(event, event.dataTransfer);
  }

  /** @param {DragEvent} event */
  #dragOver(event) {
    if (event.dataTransfer?.types.includes("Files")) {
      event.preventDefault();
      this.#highlight(true);
    }
  }

  /**
   * @param {Event} event
   * @param {DataTransfer | null} data
   */
  #take(event, data) {
    const files = [...(data?.files ?? [])];
    const file = files.find(({ type }) => type.startsWith("image/")) ?? files[0];
    if (file !== undefined) {
      event.preventDefault();
      this.onFile(file);
    }
  }

  /** @param {boolean} on */
  #highlight(on) {
    document.body.classList.toggle("dropping", on);
  }
}

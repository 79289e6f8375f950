import { byId } from "./dom.js";
import { ZOOM_STEP } from "./editor.js";

/** The buttons over the canvas. */
export class Toolbar {
  #size = byId("brush-size", HTMLInputElement);
  #needImage = ["clear", "invert", "load-mask", "save-mask", "zoom-in", "zoom-out", "fit"].map((id) =>
    byId(id, HTMLButtonElement)
  );

  /** @param {import("./editor.js").Editor} editor */
  constructor(editor) {
    this.editor = editor;
    this.#onClick("brush", () => editor.chooseTool(false));
    this.#onClick("eraser", () => editor.chooseTool(true));
    this.#onClick("undo", () => editor.mask?.undo());
    this.#onClick("redo", () => editor.mask?.redo());
    this.#onClick("clear", () => editor.mask?.clear());
    this.#onClick("invert", () => editor.mask?.invert());
    this.#onClick("zoom-in", () => editor.zoom(ZOOM_STEP));
    this.#onClick("zoom-out", () => editor.zoom(1 / ZOOM_STEP));
    this.#onClick("fit", () => editor.fit());
    this.#size.addEventListener("input", () => editor.resizeBrush(Number(this.#size.value)));
  }

  /** Show the state of the editor. */
  update() {
    const { mask, erasing, brush, largestBrush } = this.editor;
    byId("undo", HTMLButtonElement).disabled = !mask?.canUndo;
    byId("redo", HTMLButtonElement).disabled = !mask?.canRedo;
    for (const button of this.#needImage) {
      button.disabled = mask === null;
    }
    byId("brush", HTMLButtonElement).setAttribute("aria-pressed", String(!erasing));
    byId("eraser", HTMLButtonElement).setAttribute("aria-pressed", String(erasing));
    this.#size.max = String(largestBrush);
    this.#size.value = String(brush);
    byId("brush-pixels", HTMLSpanElement).textContent = `${brush} px`;
  }

  /**
   * @param {string} id
   * @param {() => void} action
   */
  #onClick(id, action) {
    byId(id, HTMLButtonElement).addEventListener("click", action);
  }
}

import { ZOOM_STEP } from "./editor.js";
import { moveCursor } from "./pointers.js";

const BRUSH_STEP = 1.2;
const STEPS_OF_BRUSH = 0.5;

/** @typedef {import("./editor.js").Editor} Editor */

/** The editor's keys: shortcuts anywhere but in fields, and painting with arrow keys on the canvas. */
export class Keys {
  /** @type {[number, number] | null} */
  #place = null;
  /** @type {import("./operations.js").Stroke | null} */
  #stroke = null;

  /**
   * @param {Editor} editor
   * @param {import("./pointers.js").Pointers} pointers
   */
  constructor(editor, pointers) {
    this.editor = editor;
    this.pointers = pointers;
    document.addEventListener("keydown", (event) => this.#press(event));
    document.addEventListener("keyup", (event) => this.#release(event));
    globalThis.addEventListener("blur", () => (pointers.spaceHeld = false));
    editor.canvas.addEventListener("blur", () => this.#liftPen());
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    if (isField(event.target) || this.editor.mask === null || event.altKey) {
      return;
    }
    const action = event.ctrlKey || event.metaKey ? this.#withControl(event) : this.#alone(event);
    if (action !== null) {
      event.preventDefault();
      action();
    }
  }

  /** @param {KeyboardEvent} event */
  #release(event) {
    if (event.key === " ") {
      this.pointers.spaceHeld = false;
    }
  }

  /**
   * @param {KeyboardEvent} event
   * @returns {(() => void) | null}
   */
  #withControl({ key, shiftKey }) {
    const { mask } = this.editor;
    switch (key.toLowerCase()) {
      case "z":
        return () => (shiftKey ? mask?.redo() : mask?.undo());
      case "y":
        return () => mask?.redo();
      default:
        return null;
    }
  }

  /**
   * @param {KeyboardEvent} event
   * @returns {(() => void) | null}
   */
  #alone(event) {
    const { editor } = this;
    switch (event.key) {
      case "[":
        return () => editor.resizeBrush(Math.min(editor.brush - 1, editor.brush / BRUSH_STEP));
      case "]":
        return () => editor.resizeBrush(Math.max(editor.brush + 1, editor.brush * BRUSH_STEP));
      case "b":
        return () => editor.chooseTool(false);
      case "e":
        return () => editor.chooseTool(true);
      default:
        return event.target === editor.canvas ? this.#onCanvas(event) : null;
    }
  }

  /**
   * @param {KeyboardEvent} event
   * @returns {(() => void) | null}
   */
  #onCanvas({ key }) {
    const { editor } = this;
    switch (key) {
      case " ":
        return () => (this.pointers.spaceHeld = true);
      case "+":
      case "=":
        return () => editor.zoom(ZOOM_STEP);
      case "-":
        return () => editor.zoom(1 / ZOOM_STEP);
      case "0":
        return () => editor.fit();
      case "Enter":
        return () => this.#setPen();
      case "Escape":
        return () => this.#liftPen();
      default:
        return this.#arrow(key);
    }
  }

  /** @param {string} key */
  #arrow(key) {
    const step = Math.max(1, this.editor.brush * STEPS_OF_BRUSH);
    /** @type {Record<string, [number, number]>} */
    const steps = {
      ArrowLeft: [-step, 0],
      ArrowRight: [step, 0],
      ArrowUp: [0, -step],
      ArrowDown: [0, step],
    };
    return key in steps ? () => this.#movePen(...steps[key]) : null;
  }

  /** @returns {[number, number]} */
  #penPlace() {
    const { width, height } = /** @type {{width: number, height: number}} */ (this.editor.mask);
    const [x, y] = this.#place ?? [width / 2, height / 2];
    return [Math.min(width, Math.max(0, x)), Math.min(height, Math.max(0, y))];
  }

  /** Begin a stroke, or end it. */
  #setPen() {
    const { mask, brush, erasing } = this.editor;
    const [x, y] = this.#penPlace();
    this.#stroke = this.#stroke === null ? (mask?.begin(x, y, brush, erasing) ?? null) : null;
    this.#showPen();
  }

  #liftPen() {
    this.#stroke = null;
    this.editor.cursor.hidden = true;
  }

  /**
   * @param {number} dx
   * @param {number} dy
   */
  #movePen(dx, dy) {
    const [x, y] = this.#penPlace();
    this.#place = [x + dx, y + dy];
    if (this.#stroke !== null) {
      this.editor.mask?.extend(this.#stroke, ...this.#penPlace());
    }
    this.#showPen();
  }

  #showPen() {
    const [x, y] = this.#penPlace();
    const { scale, x: left, y: top } = this.editor.viewport;
    this.editor.cursor.hidden = false;
    moveCursor(this.editor, left + x * scale, top + y * scale);
  }
}

/** @param {EventTarget | null} target */
function isField(target) {
  if (target instanceof HTMLInputElement) {
    return !["range", "checkbox", "button", "file"].includes(target.type);
  }
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

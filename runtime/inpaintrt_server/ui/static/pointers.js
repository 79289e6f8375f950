import { ZOOM_STEP } from "./editor.js";

const MIDDLE_BUTTON = 1;

/** @typedef {import("./editor.js").Editor} Editor */
/** @typedef {{x: number, y: number}} Point */

/** Mouse, pen and fingers over the canvas: one paints, two fingers move and zoom the view. */
export class Pointers {
  /** @type {Map<number, Point>} */
  #down = new Map();
  /** @type {import("./operations.js").Stroke | null} */
  #stroke = null;
  #panning = false;
  /** Whether dragging moves the view instead of painting. */
  spaceHeld = false;

  /** @param {Editor} editor */
  constructor(editor) {
    this.editor = editor;
    const { canvas } = editor;
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of /** @type {const} */ (["pointerup", "pointercancel"])) {
      canvas.addEventListener(name, (event) => this.#release(event));
    }
    canvas.addEventListener("pointerleave", () => this.#hideCursor());
    canvas.addEventListener("wheel", (event) => this.#turnWheel(event), { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** @param {PointerEvent} event */
  #press(event) {
    const { canvas, mask } = this.editor;
    if (mask === null || event.button > MIDDLE_BUTTON) {
      return;
    }
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    this.#down.set(event.pointerId, pointOf(event));
    if (this.#down.size > 1) {
      this.#dropStroke();
    } else if (event.button === MIDDLE_BUTTON || this.spaceHeld) {
      this.#panning = true;
    } else {
      const [x, y] = this.editor.viewport.toImage(event.offsetX, event.offsetY);
      this.#stroke = mask.begin(x, y, this.editor.brush, this.editor.erasing);
    }
  }

  /** @param {PointerEvent} event */
  #move(event) {
    this.#showCursor(event);
    const before = this.#down.get(event.pointerId);
    if (before === undefined) {
      return;
    }
    const now = pointOf(event);
    if (this.#down.size > 1) {
      this.#pinch(event.pointerId, before, now);
    } else if (this.#panning) {
      this.editor.pan(now.x - before.x, now.y - before.y);
    } else {
      this.#paint(event);
    }
    this.#down.set(event.pointerId, now);
  }

  /** @param {PointerEvent} event */
  #paint(event) {
    if (this.#stroke === null || this.editor.mask === null) {
      return;
    }
    const bounds = this.editor.canvas.getBoundingClientRect();
    const events = event.getCoalescedEvents?.() ?? [];
    for (const { clientX, clientY } of events.length > 0 ? events : [event]) {
      const [x, y] = this.editor.viewport.toImage(clientX - bounds.left, clientY - bounds.top);
      this.editor.mask.extend(this.#stroke, x, y);
    }
  }

  /**
   * @param {number} moved Id of the finger that moved.
   * @param {Point} before
   * @param {Point} now
   */
  #pinch(moved, before, now) {
    const other = [...this.#down].find(([id]) => id !== moved)?.[1];
    if (other === undefined) {
      return;
    }
    const [far, farBefore] = [distance(now, other), distance(before, other)];
    this.editor.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    if (farBefore > 0 && far > 0) {
      this.editor.zoom(far / farBefore, (now.x + other.x) / 2, (now.y + other.y) / 2);
    }
  }

  /** @param {PointerEvent} event */
  #release(event) {
    this.#down.delete(event.pointerId);
    if (this.#down.size === 0) {
      this.#stroke = null;
      this.#panning = false;
    }
    if (event.pointerType === "touch") {
      this.#hideCursor();
    }
  }

  /** A second finger came: the first one did not mean to paint. */
  #dropStroke() {
    if (this.#stroke !== null) {
      this.editor.mask?.drop();
      this.#stroke = null;
    }
  }

  /** @param {WheelEvent} event */
  #turnWheel(event) {
    if (this.editor.image === null || event.deltaY === 0) {
      return;
    }
    event.preventDefault();
    this.editor.zoom(event.deltaY < 0 ? ZOOM_STEP : 1 / ZOOM_STEP, event.offsetX, event.offsetY);
    this.#showCursor(event);
  }

  /** @param {MouseEvent} event */
  #showCursor(event) {
    const { cursor, image } = this.editor;
    cursor.hidden = image === null || this.spaceHeld || this.#panning;
    moveCursor(this.editor, event.offsetX, event.offsetY);
  }

  #hideCursor() {
    this.editor.cursor.hidden = true;
  }
}

/**
 * Put the circle that shows the brush somewhere.
 *
 * @param {Editor} editor
 * @param {number} x In pixels of the view.
 * @param {number} y
 */
export function moveCursor({ cursor, brush, viewport }, x, y) {
  const diameter = brush * viewport.scale;
  cursor.style.width = cursor.style.height = `${diameter}px`;
  cursor.style.transform = `translate(${x - diameter / 2}px, ${y - diameter / 2}px)`;
}

/**
 * @param {MouseEvent} event
 * @returns {Point}
 */
function pointOf(event) {
  return { x: event.offsetX, y: event.offsetY };
}

/**
 * @param {Point} one
 * @param {Point} other
 */
function distance(one, other) {
  return Math.hypot(one.x - other.x, one.y - other.y);
}

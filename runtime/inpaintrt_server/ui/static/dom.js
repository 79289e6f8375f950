/**
 * Find an element of the page.
 *
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} type What kind of element it is.
 * @returns {T}
 */
export function byId(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) {
    throw new TypeError(`#${id} is not a ${type.name}`);
  }
  return found;
}

/**
 * Make a canvas that is not shown, and its context.
 *
 * @param {number} width
 * @param {number} height
 * @param {boolean} [readable] Whether its pixels will be read, so that a graphics card is no place for it.
 * @returns {{canvas: HTMLCanvasElement, context: CanvasRenderingContext2D}}
 */
export function makeCanvas(width, height, readable = false) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width));
  canvas.height = Math.max(1, Math.round(height));
  return { canvas, context: contextOf(canvas, readable) };
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {boolean} [readable]
 * @returns {CanvasRenderingContext2D}
 */
export function contextOf(canvas, readable = false) {
  const context = canvas.getContext("2d", { willReadFrequently: readable });
  if (context === null) {
    throw new Error(`the browser has no memory for a canvas of ${canvas.width} x ${canvas.height}`);
  }
  return context;
}

/**
 * Encode a canvas as a PNG file, and give its memory back.
 *
 * @param {HTMLCanvasElement} canvas
 * @returns {Promise<Blob>}
 */
export async function intoPng(canvas) {
  /** @type {Blob | null} */
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const size = `${canvas.width} x ${canvas.height}`;
  canvas.width = canvas.height = 0;
  if (blob === null) {
    throw new Error(`the browser cannot encode an image of ${size}`);
  }
  return blob;
}

/**
 * Have the browser save a file.
 *
 * @param {Blob} blob
 * @param {string} name
 */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The download begins in a task of its own.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

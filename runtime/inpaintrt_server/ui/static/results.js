import { makeCanvas } from "./dom.js";

const THUMBNAIL_SIDE = 192;

/**
 * @typedef {object} Before What a result was made of.
 * @property {File | null} file Null where it was made from the prompt alone.
 * @property {number} width
 * @property {number} height
 * @property {import("./editor.js").Margins} margins
 */

/**
 * @typedef {object} Result
 * @property {Blob} blob The file as the server made it, with its metadata.
 * @property {string} url
 * @property {string} thumbnail A small copy, as a data URL.
 * @property {number} width
 * @property {number} height
 * @property {Before} before
 * @property {string | null} beforeUrl
 * @property {string} prompt
 * @property {number} seed
 * @property {string} summary
 * @property {string[]} warnings
 */

/**
 * A file out of its base64.
 *
 * @param {string} text
 * @returns {Blob}
 */
export function blobOf(text) {
  const bytes = atob(text);
  const array = new Uint8Array(bytes.length);
  for (let index = 0; index < bytes.length; index++) {
    array[index] = bytes.charCodeAt(index);
  }
  return new Blob([array], { type: "image/png" });
}

/**
 * The results that an answer of the server brings.
 *
 * @param {import("./client.js").InpaintResult} answer
 * @param {Before} before
 * @param {string} prompt
 * @returns {Promise<Result[]>}
 */
export async function resultsOf({ images, seeds, warnings, timings }, before, prompt) {
  /** @type {Result[]} */
  const results = [];
  for (const [index, text] of images.entries()) {
    const blob = blobOf(text);
    const url = URL.createObjectURL(blob);
    const image = new Image();
    image.src = url;
    await image.decode();
    const { naturalWidth: width, naturalHeight: height } = image;
    const seed = seeds[index];
    const summary = `Seed ${seed}, ${width} x ${height}, ${timings.steps} steps, ${timings.total.toFixed(1)} s`;
    const beforeUrl = before.file && URL.createObjectURL(before.file);
    const thumbnail = thumbnailOf(image);
    results.push({ blob, url, thumbnail, width, height, before, beforeUrl, prompt, seed, summary, warnings });
  }
  return results;
}

/**
 * Give the memory of a result back.
 *
 * @param {Result} result
 */
export function forget(result) {
  URL.revokeObjectURL(result.url);
  if (result.beforeUrl !== null) {
    URL.revokeObjectURL(result.beforeUrl);
  }
}

/** @param {Result} result */
export function fileNameOf(result) {
  return `inpaintrt-${result.seed}.png`;
}

/** @param {HTMLImageElement} image */
function thumbnailOf(image) {
  const scale = Math.min(1, THUMBNAIL_SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const { canvas, context } = makeCanvas(image.naturalWidth * scale, image.naturalHeight * scale);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/webp", 0.85);
}

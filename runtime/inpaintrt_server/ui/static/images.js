import { makeCanvas } from "./dom.js";
import { inMegabytes, inMegapixels, PageError } from "./words.js";

/** Longest side of what is drawn while the whole image is in view. */
export const PREVIEW_SIDE = 2048;

/** @typedef {import("./client.js").Info} Info */
/** @typedef {import("./client.js").Limits} Limits */

/**
 * An image that people opened: the file as it is, and what is shown of it, upright.
 *
 * @typedef {object} OpenedImage
 * @property {File} file What is sent, byte for byte.
 * @property {HTMLImageElement} element
 * @property {number} width Of the upright image, in pixels.
 * @property {number} height Of the upright image, in pixels.
 * @property {HTMLCanvasElement} preview The image, with sides of at most PREVIEW_SIDE.
 */

/**
 * Open a file that the server will take.
 *
 * @param {File} file
 * @param {Info | null} info What the server is; null while that is not known.
 * @returns {Promise<OpenedImage>}
 * @throws {PageError} The file is not an image, or one that the server does not take.
 */
export async function openImage(file, info) {
  checkFile(file, info);
  const element = new Image();
  const url = URL.createObjectURL(file);
  try {
    await load(element, url, file);
    const { naturalWidth: width, naturalHeight: height } = element;
    checkPixels(width, height, info?.limits ?? null);
    await decode(element, file);
    return { file, element, width, height, preview: previewOf(element, width, height) };
  } catch (error) {
    URL.revokeObjectURL(url);
    throw error;
  }
}

/**
 * Give the memory of an image back.
 *
 * @param {OpenedImage} image
 */
export function closeImage(image) {
  URL.revokeObjectURL(image.element.src);
  image.preview.width = image.preview.height = 0;
}

/**
 * @param {File} file
 * @param {Info | null} info
 */
function checkFile(file, info) {
  if (file.type !== "" && !file.type.startsWith("image/")) {
    throw unreadable(file);
  }
  if (info === null) {
    return;
  }
  const { formats, limits } = info;
  if (!formats.some((name) => file.type === `image/${name.toLowerCase()}`)) {
    throw new PageError(`The file ${file.name} is of another format than this server takes: ${formats.join(", ")}.`);
  }
  if (file.size > limits.max_body) {
    const [size, maximum] = [inMegabytes(file.size), inMegabytes(limits.max_body)];
    throw new PageError(`The file ${file.name} has ${size}; this server takes at most ${maximum}.`);
  }
}

/**
 * @param {number} width
 * @param {number} height
 * @param {Limits | null} limits
 */
function checkPixels(width, height, limits) {
  if (limits !== null && width * height > limits.max_pixels) {
    const [size, maximum] = [inMegapixels(width * height), inMegapixels(limits.max_pixels)];
    throw new PageError(`The image is ${width} x ${height}, which is ${size}; this server takes at most ${maximum}.`);
  }
}

/**
 * @param {HTMLImageElement} element
 * @param {string} url
 * @param {File} file
 * @returns {Promise<void>}
 */
function load(element, url, file) {
  return new Promise((resolve, reject) => {
    element.onload = () => resolve();
    element.onerror = () => reject(unreadable(file));
    element.src = url;
  });
}

/**
 * @param {HTMLImageElement} element
 * @param {File} file
 */
async function decode(element, file) {
  await element.decode().catch(() => {
    throw unreadable(file);
  });
}

/** @param {File} file */
function unreadable(file) {
  return new PageError(`The file ${file.name} cannot be read as an image.`);
}

/**
 * @param {HTMLImageElement} element
 * @param {number} width
 * @param {number} height
 */
function previewOf(element, width, height) {
  const scale = previewScale(width, height);
  const { canvas, context } = makeCanvas(width * scale, height * scale);
  context.imageSmoothingQuality = "high";
  context.drawImage(element, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/**
 * How much smaller than the image its preview is.
 *
 * @param {number} width
 * @param {number} height
 */
export function previewScale(width, height) {
  return Math.min(1, PREVIEW_SIDE / Math.max(width, height));
}

import { readEvents } from "./events.js";

const SERVER = new URL("../", import.meta.url);
const KEY = "inpaintrt-api-key";

/**
 * @typedef {object} Limits
 * @property {number} max_body Bytes of a request.
 * @property {number} max_pixels Pixels of an image.
 * @property {number} max_prompt Characters of a prompt.
 * @property {number} max_steps
 * @property {number} max_results
 */

/**
 * @typedef {object} Preset What a few-step checkpoint or LoRA was published with.
 * @property {string} name
 * @property {string} purpose The files that it is for.
 * @property {string | null} scheduler Null for the checkpoint's own.
 * @property {number} num_inference_steps
 * @property {number} guidance_scale
 */

/**
 * @typedef {object} Info
 * @property {string} bundle
 * @property {string} checkpoint
 * @property {[width: number, height: number]} native_size What the checkpoint was trained at.
 * @property {number} vae_scale_factor What the sides of a run are multiples of.
 * @property {string} default_sampler
 * @property {string[]} samplers
 * @property {Preset[]} presets Those for checkpoints of this kind.
 * @property {string[]} loras LoRAs that a request may choose.
 * @property {string[]} formats Of images and masks.
 * @property {Limits} limits
 */

/**
 * @typedef {object} Problem What the server says of a request that it refuses or gives up.
 * @property {string} code
 * @property {string} message
 * @property {string | null} [received]
 * @property {string | null} [expected]
 * @property {string | null} [what_to_do]
 * @property {string | null} [field]
 */

/**
 * @typedef {object} InpaintResult
 * @property {string[]} images Files as base64.
 * @property {number[]} seeds
 * @property {string[]} warnings
 * @property {{total: number, steps: number}} timings
 */

/**
 * @typedef {{name: "started", data: {total: number}}
 *   | {name: "step", data: {step: number, total: number}}
 *   | {name: "preview", data: {step: number, total: number, images: string[]}}
 *   | {name: "result", data: InpaintResult}} Progress
 */

/** The server refused a request, or gave it up. */
export class RefusedError extends Error {
  /**
   * @param {Problem} problem
   * @param {number | null} status The HTTP status; null if the problem came in a stream.
   * @param {number | null} retryAfter Seconds.
   */
  constructor(problem, status = null, retryAfter = null) {
    super(problem.message);
    this.problem = problem;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The server did not answer, or not to the end. */
export class ConnectionLostError extends Error {}

/** @returns {string | null} The API key of this tab. */
export function storedKey() {
  return sessionStorage.getItem(KEY);
}

/** @param {string} key */
export function storeKey(key) {
  sessionStorage.setItem(KEY, key);
}

/**
 * Ask what the server is and takes.
 *
 * @returns {Promise<Info>}
 */
export async function fetchInfo() {
  return await (await send("info", {})).json();
}

/** @returns {Promise<Blob>} An image to start with. */
export async function fetchExample() {
  return await (await send("ui/example.png", {})).blob();
}

/**
 * Send a request and follow it; the last event is the result.
 *
 * @param {FormData} form
 * @param {AbortSignal} signal Gives the request up.
 * @returns {AsyncGenerator<Progress, void, void>}
 */
export async function* inpaint(form, signal) {
  const headers = { Accept: "text/event-stream" };
  const response = await send("v1/inpaint", { method: "POST", body: form, headers, signal });
  if (response.body === null) {
    throw new ConnectionLostError();
  }
  for await (const event of connected(readEvents(response.body), signal)) {
    const data = JSON.parse(event.data);
    if (event.name === "error") {
      throw new RefusedError(data.error);
    }
    yield /** @type {Progress} */ ({ name: event.name, data });
    if (event.name === "result") {
      return;
    }
  }
  throw new ConnectionLostError();
}

/**
 * @param {string} path
 * @param {RequestInit} request
 * @returns {Promise<Response>}
 */
async function send(path, request) {
  const key = storedKey();
  const headers = { ...request.headers, ...(key === null ? {} : { Authorization: `Bearer ${key}` }) };
  // Without "omit" the browser would ask for a password by itself.
  const options = /** @type {RequestInit} */ ({ ...request, headers, credentials: "omit", cache: "no-store" });
  const response = await fetch(new URL(path, SERVER), options).catch((error) => {
    throw lost(error, request.signal);
  });
  if (!response.ok) {
    throw await refusal(response);
  }
  return response;
}

/**
 * @template T
 * @param {AsyncGenerator<T, void, void>} events
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<T, void, void>}
 */
async function* connected(events, signal) {
  try {
    yield* events;
  } catch (error) {
    throw lost(error, signal);
  }
}

/**
 * @param {unknown} error
 * @param {AbortSignal | null | undefined} signal
 */
function lost(error, signal) {
  return signal?.aborted ? error : new ConnectionLostError(String(error));
}

/** @param {Response} response */
async function refusal(response) {
  const wait = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const seconds = Number.isNaN(wait) ? null : wait;
  try {
    return new RefusedError((await response.json()).error, response.status, seconds);
  } catch {
    // A proxy answered, not the server.
    const problem = { code: "unknown", message: `The server answered with status ${response.status}` };
    return new RefusedError(problem, response.status, seconds);
  }
}

import { ConnectionLostError, RefusedError, storedKey } from "./client.js";

/** Something that the page itself finds wrong before the server is asked. */
export class PageError extends Error {
  /**
   * @param {string} message A sentence.
   * @param {string | null} field The form's field that is wrong.
   */
  constructor(message, field = null) {
    super(message);
    this.field = field;
  }
}

/** Fields of the form that a code of the server means. */
const FIELD_OF_CODE = new Map([
  ["invalid_prompt", "prompt"],
  ["unknown_sampler", "scheduler"],
]);

const LARGE_REQUEST = "The image is too large for this server";
const UNAUTHORIZED = 401;

/**
 * Say what went wrong, what was expected, and what to do.
 *
 * @param {unknown} error
 * @returns {{text: string, field: string | null}}
 */
export function explain(error) {
  if (error instanceof RefusedError) {
    return { text: refusalText(error), field: fieldOf(error) };
  }
  if (error instanceof ConnectionLostError) {
    return { text: "The connection to the server was lost. Check that it is running, then try again.", field: null };
  }
  if (error instanceof PageError) {
    return { text: error.message, field: error.field };
  }
  return { text: `The page failed: ${error instanceof Error ? error.message : String(error)}.`, field: null };
}

/** @param {RefusedError} error */
function fieldOf({ problem }) {
  return problem.field ?? FIELD_OF_CODE.get(problem.code) ?? null;
}

/** @param {RefusedError} error */
function refusalText({ problem, status, retryAfter }) {
  if (status === UNAUTHORIZED) {
    return storedKey() === null
      ? "This server needs an API key: enter one in the field above."
      : "The server does not accept this API key: enter another one in the field above.";
  }
  const sentence = problem.code === "body_too_large" ? LARGE_REQUEST : capitalized(problem.message);
  const details = [
    problem.received && `received: ${problem.received}`,
    problem.expected && `expected: ${problem.expected}`,
  ].filter(Boolean);
  const first = details.length > 0 ? `${sentence} (${details.join("; ")}).` : `${sentence}.`;
  return [first, adviceFor(problem, retryAfter)].filter(Boolean).join(" ");
}

/**
 * @param {import("./client.js").Problem} problem
 * @param {number | null} retryAfter
 */
function adviceFor(problem, retryAfter) {
  if (retryAfter !== null) {
    return `Try again in ${retryAfter} s.`;
  }
  return problem.what_to_do ? `${capitalized(problem.what_to_do)}.` : "";
}

/** @param {string} text */
function capitalized(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/**
 * A number of bytes for people.
 *
 * @param {number} bytes
 */
export function inMegabytes(bytes) {
  return `${(bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB`;
}

/**
 * A number of pixels for people.
 *
 * @param {number} pixels
 */
export function inMegapixels(pixels) {
  return `${(pixels / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} megapixels`;
}

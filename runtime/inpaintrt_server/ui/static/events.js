/**
 * @typedef {object} ServerEvent
 * @property {string} name
 * @property {string} data
 */

/**
 * Read server-sent events from the body of a response; comments are skipped.
 *
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<ServerEvent, void, void>}
 */
export async function* readEvents(body) {
  let name = "message";
  /** @type {string[]} */
  let data = [];
  for await (const line of readLines(body)) {
    if (line === "") {
      if (data.length > 0) {
        yield { name, data: data.join("\n") };
      }
      name = "message";
      data = [];
    } else if (line.startsWith("event:")) {
      name = valueOf(line);
    } else if (line.startsWith("data:")) {
      data.push(valueOf(line));
    }
  }
}

/** @param {string} line */
function valueOf(line) {
  const value = line.slice(line.indexOf(":") + 1);
  return value.startsWith(" ") ? value.slice(1) : value;
}

/**
 * Lines, each looked at once: a result of many megabytes is a single line that comes in many chunks.
 *
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<string, void, void>}
 */
async function* readLines(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  /** @type {string[]} */
  let pending = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      const [first, ...others] = decoder.decode(value, { stream: true }).split("\n");
      pending.push(first);
      for (const start of others) {
        yield withoutReturn(pending.join(""));
        pending = [start];
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // It may have failed already, which the reader was told.
  }
}

/** @param {string} line */
function withoutReturn(line) {
  return line.endsWith("\r") ? line.slice(0, -1) : line;
}

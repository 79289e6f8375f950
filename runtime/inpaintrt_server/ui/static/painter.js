import { inpaint } from "./client.js";
import { byId } from "./dom.js";
import { blobOf, resultsOf } from "./results.js";
import { inMegabytes, PageError } from "./words.js";

// What a form takes beside its files: names, boundaries and short texts.
const BYTES_OF_FIELDS = 4096;

/** @typedef {import("./results.js").Before} Before */

/** Sends what was filled in, and follows it to the result. One at a time. */
export class Painter {
  /** @type {AbortController | null} */
  #running = null;

  /**
   * @param {object} app
   * @param {import("./status.js").Status} app.status
   * @param {import("./form.js").Form} app.form
   * @param {import("./views.js").Views} app.views
   * @param {import("./history.js").History} app.history
   * @param {import("./client.js").Info | null} app.info
   * @param {() => import("./form.js").Subject} app.subject
   * @param {(action: () => Promise<void>) => Promise<void>} app.try
   */
  constructor(app) {
    this.app = app;
  }

  async paint() {
    if (this.#running !== null) {
      return;
    }
    const running = new AbortController();
    this.#setRunning(running);
    await this.app.try(() => this.#run(running.signal));
    this.#setRunning(null);
    if (!this.app.views.leavePreview(this.app.history.selected)) {
      return;
    }
    this.app.views.showEditor();
  }

  cancel() {
    this.#running?.abort();
  }

  /** @param {AbortController | null} running */
  #setRunning(running) {
    this.#running = running;
    const [paint, cancel] = ["paint", "cancel"].map((id) => byId(id, HTMLButtonElement));
    // A disabled button would lose the focus.
    paint.setAttribute("aria-disabled", String(running !== null));
    if (document.activeElement === cancel) {
      paint.focus();
    }
    cancel.hidden = running === null;
  }

  /** @param {AbortSignal} signal */
  async #run(signal) {
    const { form, status } = this.app;
    form.check();
    const subject = this.app.subject();
    const before = this.#before(subject.image);
    status.showProgress(subject.image === null ? "Sending the prompt" : "Sending the image");
    try {
      const data = await this.#request(subject, before.width * before.height);
      await this.#follow(inpaint(data, signal), before, form.prompt);
    } catch (error) {
      if (!signal.aborted) {
        throw error;
      }
      status.say("Canceled.");
    }
  }

  /**
   * @param {import("./images.js").OpenedImage | null} image
   * @returns {Before}
   */
  #before(image) {
    const { form } = this.app;
    if (image === null) {
      const [width, height] = form.size;
      return { file: null, width, height, margins: [0, 0, 0, 0] };
    }
    return { file: image.file, width: image.width, height: image.height, margins: form.margins };
  }

  /**
   * @param {import("./form.js").Subject} subject
   * @param {number} pixels Of the image.
   * @throws {PageError} The server takes no request as large as that.
   */
  async #request(subject, pixels) {
    const { image, mask } = subject;
    const data = this.app.form.read(subject, pixels);
    if (image === null) {
      return data;
    }
    data.append("image", image.file);
    const file = mask === null ? null : await mask.toPng();
    if (file !== null) {
      data.append("mask", file, "mask.png");
    }
    const size = image.file.size + (file?.size ?? 0) + BYTES_OF_FIELDS;
    const maximum = this.app.info?.limits.max_body ?? Infinity;
    if (size > maximum) {
      throw new PageError(
        `The image and its mask have ${inMegabytes(size)} together; this server takes at most ${inMegabytes(maximum)}.`,
      );
    }
    return data;
  }

  /**
   * @param {AsyncGenerator<import("./client.js").Progress, void, void>} events
   * @param {Before} before
   * @param {string} prompt
   */
  async #follow(events, before, prompt) {
    const { status, views, history } = this.app;
    for await (const { name, data } of events) {
      switch (name) {
        case "started":
          status.showProgress(`Step 0 of ${data.total}`, 0, data.total);
          break;
        case "step":
          status.showProgress(`Step ${data.step} of ${data.total}`, data.step, data.total);
          break;
        case "preview":
          views.showPreview(blobOf(data.images[0]), before, data);
          break;
        case "result":
          history.add(await resultsOf(data, before, prompt));
          status.say("Done.");
          views.bringResultIntoView();
      }
    }
  }
}

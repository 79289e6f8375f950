import { fetchExample, fetchInfo, RefusedError, storeKey } from "./client.js";
import { byId, download } from "./dom.js";
import { Editor } from "./editor.js";
import { Form } from "./form.js";
import { History } from "./history.js";
import { closeImage, openImage } from "./images.js";
import { Keys } from "./keys.js";
import { Painter } from "./painter.js";
import { Pointers } from "./pointers.js";
import { fileNameOf } from "./results.js";
import { Sources } from "./sources.js";
import { Status } from "./status.js";
import { Toolbar } from "./toolbar.js";
import { Views } from "./views.js";
import { explain } from "./words.js";

const UNAUTHORIZED = 401;
const PROMPT_OF_EXAMPLE = "a red balloon";

/** The page: its parts, and what its buttons do. */
class App {
  status = new Status();
  form = new Form("alert");
  views = new Views();
  history = new History((result) => this.views.showResult(result));
  editor = new Editor(byId("canvas", HTMLCanvasElement), byId("cursor", HTMLDivElement), () => this.toolbar?.update());
  toolbar = new Toolbar(this.editor);
  painter = new Painter(this);
  /** @type {import("./client.js").Info | null} */
  info = null;

  start() {
    new Keys(this.editor, new Pointers(this.editor));
    new Sources((file) => this.open(file));
    this.#connectFiles();
    this.#connectForm();
    this.#connectResult();
    this.toolbar.update();
    this.connect();
  }

  /** Ask the server what it is and takes. */
  async connect() {
    await this.try(async () => {
      this.info = await fetchInfo();
      byId("key-panel", HTMLElement).hidden = true;
      byId("checkpoint", HTMLElement).textContent = this.info.bundle;
      this.form.adapt(this.info);
      this.status.clear();
    });
  }

  /**
   * Show an image that people gave.
   *
   * @param {File} file
   */
  async open(file) {
    await this.try(async () => {
      this.editor.open(await openImage(file, this.info));
      byId("invitation", HTMLElement).hidden = true;
      this.views.showEditor();
      this.status.clear();
    });
  }

  /**
   * Do something, and say what went wrong with it.
   *
   * @param {() => Promise<void>} action
   */
  async try(action) {
    this.form.unmark();
    try {
      await action();
    } catch (error) {
      const { text, field } = explain(error);
      this.status.warn(text);
      if (error instanceof RefusedError && error.status === UNAUTHORIZED) {
        this.#askForKey();
      } else if (field !== null) {
        this.form.mark(field);
      }
    }
  }

  #askForKey() {
    byId("key-panel", HTMLElement).hidden = false;
    byId("key", HTMLInputElement).focus();
  }

  #connectFiles() {
    for (const id of ["example", "example-2"]) {
      byId(id, HTMLButtonElement).addEventListener("click", () => this.#openExample());
    }
    byId("mask-file", HTMLInputElement).addEventListener("change", (event) => {
      const input = /** @type {HTMLInputElement} */ (event.target);
      const file = input.files?.[0];
      input.value = "";
      if (file !== undefined) {
        this.#openMask(file);
      }
    });
    byId("save-mask", HTMLButtonElement).addEventListener("click", () => this.#saveMask());
  }

  async #openExample() {
    await this.try(async () => {
      const file = new File([await fetchExample()], "example.png", { type: "image/png" });
      await this.open(file);
      this.form.prompt ||= PROMPT_OF_EXAMPLE;
    });
  }

  /** @param {File} file */
  async #openMask(file) {
    await this.try(async () => {
      const opened = await openImage(file, this.info);
      try {
        this.editor.mask?.replace(opened);
      } finally {
        closeImage(opened);
      }
      this.status.clear();
    });
  }

  async #saveMask() {
    await this.try(async () => {
      if (this.editor.mask !== null) {
        download(await this.editor.mask.toPng(), "mask.png");
      }
    });
  }

  #connectForm() {
    const { element } = this.form;
    element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.painter.paint();
    });
    element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        element.requestSubmit();
      }
    });
    byId("cancel", HTMLButtonElement).addEventListener("click", () => this.painter.cancel());
    byId("margins", HTMLElement).addEventListener("input", () => this.editor.showMargins(this.form.margins));
    byId("key-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      storeKey(byId("key", HTMLInputElement).value.trim());
      this.connect();
    });
  }

  #connectResult() {
    const withResult = (/** @type {(result: import("./results.js").Result) => void} */ action) => () => {
      if (this.history.selected !== null) {
        action(this.history.selected);
      }
    };
    byId("download", HTMLButtonElement).addEventListener(
      "click",
      withResult((result) => download(result.blob, fileNameOf(result))),
    );
    byId("use-as-input", HTMLButtonElement).addEventListener(
      "click",
      withResult((result) => this.open(new File([result.blob], fileNameOf(result), { type: result.blob.type }))),
    );
    byId("reuse-seed", HTMLButtonElement).addEventListener(
      "click",
      withResult((result) => {
        this.form.keepSeed(result.seed);
        this.status.say(`The next run uses seed ${result.seed}.`);
      }),
    );
  }

  /**
   * The image and its mask, as far as there are any.
   *
   * @returns {import("./form.js").Subject}
   */
  subject() {
    const { image, mask } = this.editor;
    return { image, mask: mask?.isEmpty ? null : mask };
  }
}

new App().start();

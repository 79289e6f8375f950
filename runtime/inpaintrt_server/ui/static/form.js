import { byId } from "./dom.js";
import { PageError } from "./words.js";

const SEEDS = 2 ** 32;
const MAX_SLIDER_STEPS = 100;
const PREVIEWS = 4;
const PREVIEWS_OF_LARGE = 1;
const LARGE = 4_000_000;
const SIZE = ["width", "height"];
const MIN_SIDE = 8;
const MARGINS = ["margin_left", "margin_top", "margin_right", "margin_bottom"];
/** Fields that are sent as they are, where they are not empty. */
const PLAIN_FIELDS = [
  "negative_prompt",
  "preset",
  "num_inference_steps",
  "guidance_scale",
  "scheduler",
  "lora",
  "num_images_per_prompt",
];
const FIELDS_OF_MASKS = ["mask_blur", "mask_grow"];

/**
 * @typedef {object} Subject What a run starts from.
 * @property {import("./images.js").OpenedImage | null} image Null for an image from the prompt alone.
 * @property {import("./mask.js").Mask | null} mask Null where nothing is painted over.
 */

/** @typedef {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} Field */

/** What people fill in. */
export class Form {
  element = byId("form", HTMLFormElement);
  #native = [0, 0];
  /** @type {import("./client.js").Preset[]} */
  #presets = [];

  /** @param {string} messages Id of the element that says what is wrong. */
  constructor(messages) {
    this.messages = messages;
    for (const slider of this.element.querySelectorAll("input[data-for]")) {
      connect(/** @type {HTMLInputElement} */ (slider), this.#input);
    }
    this.#field("preset").addEventListener("change", () => this.#fillInPreset());
    this.#input("seed").addEventListener("input", () => (this.#input("random_seed").checked = false));
  }

  get prompt() {
    return this.#field("prompt").value;
  }

  set prompt(text) {
    this.#field("prompt").value = text;
  }

  /** @returns {import("./editor.js").Margins} */
  get margins() {
    return /** @type {import("./editor.js").Margins} */ (MARGINS.map((name) => Number(this.#input(name).value) || 0));
  }

  /** @returns {number[]} Width and height of an image from the prompt alone. */
  get size() {
    return SIZE.map((name, index) => Number(this.#input(name).value) || this.#native[index]);
  }

  /** @param {number} seed Kept for the next runs. */
  keepSeed(seed) {
    this.#input("seed").value = String(seed);
    this.#input("random_seed").checked = false;
  }

  /**
   * Offer what this server has, and no more than it takes.
   *
   * @param {import("./client.js").Info} info
   */
  adapt(info) {
    const { samplers, presets, default_sampler: own, loras, limits } = info;
    const { native_size: native, vae_scale_factor: factor } = info;
    this.#native = native;
    for (const [index, name] of SIZE.entries()) {
      const side = this.#input(name);
      side.placeholder = String(native[index]);
      side.step = String(factor);
      side.min = String(Math.max(factor, MIN_SIDE));
    }
    for (const name of ["prompt", "negative_prompt"]) {
      /** @type {HTMLTextAreaElement} */ (this.#field(name)).maxLength = limits.max_prompt;
    }
    const steps = this.#input("num_inference_steps");
    steps.max = String(limits.max_steps);
    steps.value = String(Math.min(Number(steps.value), limits.max_steps));
    byId("steps-slider", HTMLInputElement).max = String(Math.min(limits.max_steps, MAX_SLIDER_STEPS));
    steps.dispatchEvent(new Event("input"));
    this.#input("num_images_per_prompt").max = String(limits.max_results);
    const list = byId("scheduler", HTMLSelectElement);
    const ownName = `The checkpoint's own (${own.replace(/Scheduler$/, "")})`;
    list.replaceChildren(new Option(ownName, ""), ...samplers.map((name) => new Option(name)));
    this.#presets = presets;
    const choices = presets.map(({ name, purpose }) => new Option(`${name}: ${purpose}`, name));
    byId("preset", HTMLSelectElement).replaceChildren(new Option("None", ""), ...choices);
    byId("lora-choice", HTMLElement).hidden = loras.length === 0;
    const choice = byId("lora", HTMLSelectElement);
    choice.replaceChildren(new Option("None", ""), ...loras.map((name) => new Option(name)));
  }

  /** Show what the chosen preset sets; without one the page's own values. */
  #fillInPreset() {
    const preset = this.#presets.find(({ name }) => name === this.#field("preset").value);
    for (const name of /** @type {const} */ (["num_inference_steps", "guidance_scale"])) {
      const number = this.#input(name);
      number.value = preset === undefined ? number.defaultValue : String(preset[name]);
      number.dispatchEvent(new Event("input"));
    }
    this.#field("scheduler").value = preset?.scheduler ?? "";
  }

  /** @throws {PageError} A field is not valid; the first such one is named. */
  check() {
    for (const field of this.element.elements) {
      if (isField(field) && !field.checkValidity()) {
        throw new PageError(`${labelOf(field)}: ${field.validationMessage}`, field.name);
      }
    }
  }

  /**
   * What to send, without the image and the mask.
   *
   * @param {Subject} subject
   * @param {number} pixels Of the image: previews of a large one take longer than they are worth.
   * @returns {FormData}
   */
  read(subject, pixels) {
    const data = new FormData();
    data.append("prompt", this.prompt);
    for (const name of this.#fieldsFor(subject)) {
      const { value } = this.#field(name);
      if (value !== "") {
        data.append(name, value);
      }
    }
    if (this.#hasMargins) {
      data.append("margins", JSON.stringify(this.margins));
    }
    data.append("seed", JSON.stringify(this.#seeds()));
    data.append("previews", String(pixels > LARGE ? PREVIEWS_OF_LARGE : PREVIEWS));
    return data;
  }

  get #hasMargins() {
    return this.margins.some((margin) => margin > 0);
  }

  /** @param {Subject} subject */
  #fieldsFor({ image, mask }) {
    const ofTask = image === null ? SIZE : ["strength"];
    return [...PLAIN_FIELDS, ...ofTask, ...(mask !== null || this.#hasMargins ? FIELDS_OF_MASKS : [])];
  }

  /** One seed for each result, so that each of them can be made again alone. */
  #seeds() {
    const seed = this.#input("seed");
    if (this.#input("random_seed").checked) {
      seed.value = String(Math.floor(Math.random() * SEEDS));
    }
    const count = Number(this.#input("num_images_per_prompt").value);
    return Array.from({ length: count }, (_, index) => Number(seed.value) + index);
  }

  /**
   * Show which field is wrong, and lead there.
   *
   * @param {string} name As the server calls it; an index follows the name of a list.
   */
  mark(name) {
    const [first, index] = name.split(".");
    const field = this.element.elements.namedItem(first === "margins" ? MARGINS[Number(index ?? 0)] : first);
    if (!isField(field)) {
      return;
    }
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", this.messages);
    const folded = field.closest("details");
    if (folded !== null) {
      folded.open = true;
    }
    field.focus();
  }

  unmark() {
    for (const field of this.element.querySelectorAll("[aria-invalid]")) {
      field.removeAttribute("aria-invalid");
      field.removeAttribute("aria-describedby");
    }
  }

  /** @param {string} name */
  #field = (name) => /** @type {Field} */ (this.element.elements.namedItem(name));
  /** @param {string} name */
  #input = (name) => /** @type {HTMLInputElement} */ (this.element.elements.namedItem(name));
}

/**
 * Let a slider and the number field that it belongs to show the same.
 *
 * @param {HTMLInputElement} slider
 * @param {(name: string) => HTMLInputElement} find
 */
function connect(slider, find) {
  const number = find(slider.dataset.for ?? "");
  slider.addEventListener("input", () => (number.value = slider.value));
  number.addEventListener("input", () => (slider.value = number.value || slider.defaultValue));
}

/**
 * @param {Element | RadioNodeList | null} element
 * @returns {element is Field}
 */
function isField(element) {
  return (
    element instanceof HTMLInputElement || element instanceof HTMLTextAreaElement ||
    element instanceof HTMLSelectElement
  );
}

/** @param {Field} field */
function labelOf(field) {
  return field.labels?.[0]?.textContent?.trim() ?? field.name;
}

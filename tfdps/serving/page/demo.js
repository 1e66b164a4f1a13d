// Runs the generator in this browser: picks a class, moves z, draws samples, and says what is guaranteed.
import * as ort from "./ort/ort.wasm.bundle.min.mjs";

const SAMPLES = 48;
const SLIDERS = 6; // the first coordinates of z, the picture's main directions
const STEP = 0.18; // how far z moves when the picture is dragged by its own width
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const element = (id) => document.getElementById(id);
const state = { label: 0, z: null, directions: null, offset: [0, 0], samples: [], buttons: [], busy: false, wanted: false };
let session, card, size;

async function start() {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: new URL("ort/ort-wasm-simd-threaded.wasm", location.href).href };
  const answer = await fetch("model_card.json");
  card = await answer.json();
  session = await ort.InferenceSession.create("generator.onnx", { executionProviders: ["wasm"] });
  const [height, width, channels] = card.generator.image_shape;
  size = { height, width, channels, pixels: height * width * channels };
  showGuarantee();
  makeClasses();
  makeSliders();
  listen();
  anotherZ();
  otherDirections();
  element("main").hidden = false;
  await draw();
  document.body.dataset.ready = "true";
}

// float32 images [n, H, W, C] in [-1, 1] of latents and one label.
async function decode(latents, label) {
  const labels = new Int32Array(latents.length).fill(label);
  const z = new Float32Array(latents.length * card.generator.latent_dim);
  latents.forEach((latent, index) => z.set(latent, index * card.generator.latent_dim));
  const { images } = await session.run({
    z: new ort.Tensor("float32", z, [latents.length, card.generator.latent_dim]),
    labels: new ort.Tensor("int32", labels, [latents.length]),
  });
  return latents.map((_, index) => images.data.subarray(index * size.pixels, (index + 1) * size.pixels));
}

function paint(canvas, image) {
  const { height, width, channels } = size;
  canvas.width = width;
  canvas.height = height;
  const picture = new ImageData(width, height);
  for (let pixel = 0; pixel < height * width; pixel++) {
    for (let colour = 0; colour < 3; colour++) {
      const value = image[pixel * channels + (channels < 3 ? 0 : colour)];
      picture.data[pixel * 4 + colour] = Math.round((value + 1) * 127.5); // clamped by its type
    }
    picture.data[pixel * 4 + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

function randomZ() {
  return Float32Array.from({ length: card.generator.latent_dim }, Math.random);
}

// Reflected at 0 and 1: a moved z is as uniform as the one it came from.
function reflected(value) {
  const folded = Math.abs(value) % 2;
  return folded > 1 ? 2 - folded : folded;
}

function movedZ() {
  const [right, down] = state.directions;
  return state.z.map((value, index) =>
    index === 0 ? value : reflected(value + state.offset[0] * right[index] + state.offset[1] * down[index]));
}

function anotherZ() {
  state.z = randomZ();
  settle();
}

function otherDirections() {
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  const direction = () => Float32Array.from({ length: card.generator.latent_dim }, () => STEP * normal());
  if (state.directions) settle(movedZ());
  state.directions = [direction(), direction()];
}

// Takes z as where dragging starts, and the sliders to it.
function settle(z = state.z) {
  state.z = Float32Array.from(z);
  state.offset = [0, 0];
  document.querySelectorAll("#sliders input").forEach((input, index) => { input.value = state.z[index]; });
}

// Draws the large image of the newest z; of many moves while one is drawn, the last.
async function showOne() {
  state.wanted = true;
  if (state.busy) return;
  state.busy = true;
  busy("one", true);
  while (state.wanted) {
    state.wanted = false;
    const [image] = await decode([movedZ()], state.label);
    paint(element("one"), image);
  }
  state.busy = false;
  busy("one", false);
}

async function draw() {
  busy("many", true);
  state.samples = Array.from({ length: SAMPLES }, randomZ);
  const started = performance.now();
  const images = await decode(state.samples, state.label);
  const milliseconds = performance.now() - started;
  const names = card.generator.class_names;
  const buttons = images.map((image, index) => {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    button.type = "button";
    button.setAttribute("aria-label", `Sample ${index + 1} of class ${names[state.label]}`);
    button.addEventListener("click", () => { settle(state.samples[index]); showOne(); });
    paint(canvas, image);
    button.append(canvas);
    return button;
  });
  element("many").replaceChildren(...buttons);
  element("timing").textContent = `${SAMPLES} images in ${milliseconds.toFixed(0)} ms, in this browser`;
  await showOne();
  busy("many", false);
}

// Tells assistive technology, and whoever else waits for the picture, that another one is being made.
function busy(id, is) {
  element(id).setAttribute("aria-busy", String(is));
}

function makeClasses() {
  const buttons = card.generator.class_names.map((name, label) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("role", "radio");
    button.textContent = name;
    button.addEventListener("click", () => choose(label));
    return button;
  });
  element("classes").replaceChildren(...buttons);
  state.buttons = buttons;
  mark();
}

function choose(label) {
  state.label = label;
  mark();
  return draw();
}

function mark() {
  state.buttons.forEach((button, label) => {
    button.setAttribute("aria-checked", String(label === state.label));
    button.tabIndex = label === state.label ? 0 : -1;
  });
}

function makeSliders() {
  const count = Math.min(1 + SLIDERS, card.generator.latent_dim);
  element("sliders").replaceChildren(...Array.from({ length: count }, (_, index) => {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "range", min: 0, max: 1, step: 0.001 });
    input.addEventListener("input", () => {
      const z = movedZ();
      z[index] = Number(input.value);
      settle(z);
      showOne();
    });
    label.append(`z ${index}`, input);
    return label;
  }));
}

function listen() {
  const one = element("one");
  let from = null;
  one.addEventListener("pointerdown", (event) => {
    one.setPointerCapture(event.pointerId);
    from = [event.clientX, event.clientY];
  });
  one.addEventListener("pointermove", (event) => {
    if (!from) return;
    const side = one.clientWidth;
    state.offset = [(event.clientX - from[0]) / side * 4, (event.clientY - from[1]) / side * 4];
    showOne();
  });
  const release = () => {
    if (from) settle(movedZ());
    from = null;
  };
  one.addEventListener("pointerup", release);
  one.addEventListener("pointercancel", release);
  one.addEventListener("keydown", (event) => {
    if (!KEYS[event.key]) return;
    event.preventDefault();
    state.offset = KEYS[event.key].map((way) => way / 4);
    settle(movedZ());
    showOne();
  });
  element("classes").addEventListener("keydown", (event) => {
    if (!KEYS[event.key]) return;
    event.preventDefault();
    const count = state.buttons.length, way = KEYS[event.key][0] + KEYS[event.key][1];
    choose((state.label + way + count) % count);
    state.buttons[state.label].focus();
  });
  element("draw").addEventListener("click", draw);
  element("new-z").addEventListener("click", () => { anotherZ(); showOne(); });
  element("new-directions").addEventListener("click", otherDirections);
}

function showGuarantee() {
  const { privacy, generator } = card;
  // In four digits, rounded up: no epsilon is shown smaller than it is.
  const short = (number) => {
    const nearest = Number(number.toPrecision(4));
    if (nearest >= number) return String(nearest);
    const unit = 10 ** (Math.floor(Math.log10(nearest)) - 3);
    return String(Number((nearest + unit).toPrecision(4)));
  };
  const delta = privacy.delta < 1e-3 ? Number(privacy.delta).toExponential() : String(privacy.delta);
  document.title = `${generator.dataset}: images with a guarantee`;
  element("title").textContent = `${generator.dataset}, as a generator`;
  element("lead").textContent = "None of these images was taken: a generator draws them, here in your browser.";
  const epsilon = element("epsilon");
  if (!privacy.private) {
    epsilon.textContent = "NOT PRIVATE";
    epsilon.className = "not-private";
    element("meaning").textContent = "The generator was trained without noise. It may show its training images.";
    return;
  }
  epsilon.textContent = `ε = ${short(privacy.epsilon)}, δ = ${delta}`;
  element("meaning").textContent =
    "Differential privacy: whoever has this generator, and knows all other records, can hardly tell whether any one "
    + `record was among the ${privacy.dataset_size.toLocaleString("en")} that it was trained on. Its odds change by a `
    + `factor of at most ${short(Math.exp(privacy.epsilon))}, but for a probability of ${delta}.`;
  const facts = {
    Mechanism: privacy.mechanism,
    "Noisy steps": privacy.steps,
    "ε by RDP": short(privacy.epsilon_rdp),
    "ε by PLD": short(privacy.epsilon_pld),
    Neighbours: privacy.adjacency,
    Exported: card.created.slice(0, 10),
  };
  element("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => {
    const term = document.createElement("dt"), description = document.createElement("dd");
    term.textContent = name;
    description.textContent = value;
    return [term, description];
  }));
  element("caveats").replaceChildren(...privacy.caveats.map((caveat) => {
    const item = document.createElement("li");
    item.textContent = caveat;
    return item;
  }));
}

try {
  await start();
} catch (error) {
  element("lead").textContent = "";
  element("error").textContent = `The generator cannot be run in this browser: ${error.message ?? error}`;
  element("error").hidden = false;
}

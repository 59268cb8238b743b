// Plays by the exported policy: the observation comes from the server, the decision is made here.
import * as ort from "/ort/ort.wasm.bundle.min.mjs";

ort.env.wasm.wasmPaths = "/ort/";
ort.env.wasm.numThreads = 1;

const PER_SECOND = 15; // decisions at an Atari game's own speed: 60 frames, 4 a step
const asked = new URLSearchParams(location.search);
const fast = asked.has("fast"); // as quickly as it goes, without pictures
const most = Number(asked.get("steps") ?? Infinity);

const show = (id, text) => { document.getElementById(id).textContent = text; };
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const post = async (path, body) =>
  (await fetch(path, { method: "POST", body: JSON.stringify(body) })).json();

function draw(id, picture) {
  if (!picture) return;
  const canvas = document.getElementById(id);
  const { width, height } = picture;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const rgb = bytes(picture.rgb);
  const rgba = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let i = 0; i < width * height; i++) rgba.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
  canvas.getContext("2d").putImageData(new ImageData(rgba, width, height), 0, 0);
}

const empty = (type, shape) => {
  const size = shape.reduce((a, b) => a * b, 1);
  const kind = { float32: Float32Array, int64: BigInt64Array, bool: Uint8Array }[type];
  return new ort.Tensor(type, new kind(size), [1, ...shape]);
};

class Policy {
  constructor(contract, session) {
    this.contract = contract;
    this.session = session;
    this.begin();
  }

  begin() { // a memory begins with zeros
    this.memory = Object.fromEntries(
      this.contract.memory.map((part) => [part.input, empty(part.dtype, part.shape)]));
  }

  async act(data) {
    const { input, dtype, shape } = this.contract.observation;
    const numbers = dtype === "uint8" ? data : new Float32Array(data.buffer);
    const obs = new ort.Tensor(dtype, numbers, [1, ...shape]);
    const out = await this.session.run({ [input]: obs, ...this.memory });
    for (const part of this.contract.memory) this.memory[part.input] = out[part.output];
    return Array.from(out[this.contract.action.output].data, Number);
  }
}

async function main() {
  const contract = await (await fetch("/policy/contract.json")).json();
  show("title", `${contract.model.name} plays ${contract.environment.env}`);
  const policy = new Policy(contract, await ort.InferenceSession.create(`/policy/${contract.file}`));
  let seen = await post("/begin", null);
  await policy.act(bytes(seen.obs)); // the first decision compiles
  policy.begin();
  show("says", `decided here, by onnxruntime-web; the environment runs on ${location.host}`);
  let steps = 0, same = 0, deciding = 0;
  const began = performance.now();
  while (!seen.over && steps < most) {
    const from = performance.now();
    const action = await policy.act(bytes(seen.obs));
    deciding += performance.now() - from;
    seen = await post("/step", action);
    steps += 1;
    same += seen.same;
    if (!fast || steps % 50 === 0) {
      draw("theirs", seen.frame);
      draw("own", seen.own.frame);
      show("score", seen.score);
      show("own-score", seen.own.score);
      show("steps", steps.toLocaleString("en"));
      show("same", `${(100 * same / steps).toFixed(2)} %`);
      show("time", `${(1000 * deciding / steps).toFixed(0)} µs`);
      show("rate", (1000 * steps / (performance.now() - began)).toFixed(1));
    }
    if (!fast) {
      const due = began + steps * 1000 / PER_SECOND;
      await new Promise((done) => setTimeout(done, Math.max(0, due - performance.now())));
    }
  }
  const seconds = (performance.now() - began) / 1000;
  show("says", `over after ${steps.toLocaleString("en")} steps`);
  await post("/result", {
    score: seen.score, own: seen.own.score, steps, same,
    microseconds: 1000 * deciding / steps, rate: steps / seconds,
  });
}

main().catch((error) => {
  show("says", String(error));
  post("/result", { error: String(error) });
});

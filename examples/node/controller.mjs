// A controller bundle in Node.js: npm install --ignore-scripts onnxruntime-node
// Frames and proprio in, command chunks out; what is kept from step to step is what the Python runtime keeps.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import ort from "onnxruntime-node";

const tensor = (shape, data) => new ort.Tensor(data ?? new Float32Array(shape.reduce((a, b) => a * b, 1)), shape);

export class Controller {
  static async open(folder) {
    const it = new Controller();
    it.spec = JSON.parse(readFileSync(join(folder, "controller.json"), "utf8"));
    it.encoder = await ort.InferenceSession.create(join(folder, "encode.onnx"));
    it.planner = await ort.InferenceSession.create(join(folder, "plan.onnx"));
    it.warm = tensor([1, it.spec.horizon, it.spec.command.names.length]);
    it.history = null; // the first latent stands in for those before it
    return it;
  }

  async encode(frame) {
    const { height, width } = this.spec;
    const { latent } = await this.encoder.run({ frame: new ort.Tensor("uint8", frame, [1, height, width, 3]) });
    return latent.data;
  }

  async setGoal(frame) {
    this.goal = await this.encode(frame);
  }

  // frame: Uint8Array, RGB rows; proprio: in the order of spec.proprio; reference: the command in force;
  // noise: standard normal, iterations × candidates × horizon × commands; pending: where spec.ahead is above 0, that
  // many chunks of commands already under way. Returns frame_skip rows of commands.
  async step(frame, proprio, reference, noise, pending = null) {
    const { history, latent_dim, horizon, iterations, candidates, command, ahead } = this.spec;
    const latent = await this.encode(frame), dim = command.names.length;
    this.history = this.history ? [...this.history.slice(1), latent] : Array(history).fill(latent);
    const past = new Float32Array(history * latent_dim);
    this.history.forEach((z, i) => past.set(z, i * latent_dim));
    const inputs = {
      history: tensor([1, history, latent_dim], past),
      goal: tensor([1, latent_dim], this.goal),
      proprio: tensor([1, proprio.length], Float32Array.from(proprio)),
      reference: tensor([1, dim], Float32Array.from(reference)),
      warm: this.warm,
      noise: tensor([1, iterations, candidates, horizon, dim], noise),
    };
    if (this.planner.inputNames.includes("target")) // no other target than the goal's picture
      inputs.target = tensor([1, proprio.length], new Float32Array(proprio.length).fill(NaN));
    if (ahead) inputs.pending = tensor([1, ahead, command.frame_skip, dim], Float32Array.from(pending.flat(2)));
    const plan = await this.planner.run(inputs);
    this.warm = plan.next_warm;
    return Array.from({ length: command.frame_skip }, (_, k) => Array.from(plan.command.data.slice(k * dim, (k + 1) * dim)));
  }
}

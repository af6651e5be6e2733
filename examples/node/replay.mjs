// Replays recorded inputs through a bundle and prints the commands: node replay.mjs BUNDLE INPUTS.json
import { readFileSync } from "node:fs";
import { Controller } from "./controller.mjs";

const [bundle, inputs] = process.argv.slice(2);
const { goal, steps } = JSON.parse(readFileSync(inputs, "utf8"));
const controller = await Controller.open(bundle);
await controller.setGoal(Uint8Array.from(goal));
const commands = [];
let reference = steps[0].reference;
for (const { frame, proprio, noise } of steps) {
  const chunk = await controller.step(Uint8Array.from(frame), proprio, reference, Float32Array.from(noise));
  reference = chunk.at(-1); // the loop is closed over the command: the next plan starts from the last one sent
  commands.push(chunk);
}
console.log(JSON.stringify(commands));

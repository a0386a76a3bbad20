import { expect, test } from "vitest"
import {
  attention,
  embedding,
  layerNorm,
  logProbsOf,
  qkNorm,
  rmsNorm,
  rope,
  ropeTable,
  sample,
  ShapeError,
  softCap,
  swiglu,
  tokenLogProbs,
} from "../../src/index.ts"
import { testDevice } from "../device.ts"

const gpu = await testDevice()
const whole = (...shape: number[]) => gpu.ones(shape, "i32")
const some = (...shape: number[]) => gpu.ones(shape)
const heads = { heads: 1, kvHeads: 1, headDim: 4 }
const ids = gpu.zeros([2], "i32")
const spans = gpu.zeros([2, 4], "i32")
const keys = gpu.zeros([2, 4], "u32")
const choice = { temperature: 1, topK: 0, topP: 1, minP: 0 }

test.each([
  ["layerNorm", () => layerNorm(whole(2, 4), some(4), some(4), 1e-5)],
  ["layerNorm", () => layerNorm(some(2, 4), some(4), whole(4), 1e-5)],
  ["rmsNorm", () => rmsNorm(some(2, 4), whole(4), 1e-5)],
  ["qkNorm", () => qkNorm(whole(2, 12), some(4), some(4), { ...heads, eps: 1e-5 })],
  ["glu", () => swiglu(whole(2, 4))],
  ["softCap", () => softCap(whole(2, 4), 5)],
  ["rope", () => rope(whole(2, 12), ropeTable(gpu, { positions: 2, headDim: 4, theta: 1e4 }), ids, heads)],
  ["attention", () => attention(some(2, 4), whole(2, 8), spans, heads)],
  ["embedding", () => embedding(whole(3, 4), ids)],
  ["tokenLogProbs", () => tokenLogProbs(whole(2, 4), some(8, 4), ids, { temperature: 1 })],
  ["logProbsOf", () => logProbsOf(whole(2, 8), ids, { temperature: 1 })],
  ["sample", () => sample(whole(2, 8), keys, choice)],
])("%s refuses whole numbers where it computes with floating-point ones", (name, call) => {
  expect(call).toThrow(ShapeError)
  expect(call).toThrow(new RegExp(`^${name}: operand \\d is i32 and must be floating-point`))
})

import { readFileSync } from "node:fs"
import { join } from "node:path"
import { readSafetensors, safetensorsToFloat32 } from "@rlpt/tensor"
import { expect, test } from "vitest"
import { blockTypes, type GgmlType } from "../../src/gguf/blocks.ts"
import { fixtures } from "../fixtures.ts"

const file = "gguf-blocks.safetensors"
const { tensors } = readSafetensors(new Uint8Array(readFileSync(join(fixtures, file))), file)

test.each(Object.keys(blockTypes) as ReadonlyArray<GgmlType>)("%s dequantises to the bits that ggml gives", (type) => {
  const { elements, bytes, decode } = blockTypes[type]
  const expected = safetensorsToFloat32(tensors.get(`${type}.values`)!)
  const count = expected.length / elements
  const values = new Float32Array(expected.length)
  decode(tensors.get(`${type}.bytes`)!.data.subarray(0, count * bytes), values)
  expect(count).toBeGreaterThanOrEqual(4)
  expect(new Uint32Array(values.buffer)).toEqual(new Uint32Array(expected.buffer))
})

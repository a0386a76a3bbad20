import { describe, expect, test } from "vitest"
import { openDevice, OutOfMemoryError, ValidationError, type Gpu, type Tensor } from "../../src/index.ts"
import { applyFusedOne } from "../../src/graph/apply.ts"
import type { FusedOp } from "../../src/graph/fused-op.ts"
import { reads, writes } from "../../src/program/kernel.ts"

/** An operation whose kernel has this for its body. */
const opOf = (body: string): FusedOp<undefined> => ({
  name: "custom",
  infer: ([x]) => [x!],
  lower: (emit, [x], [out]) =>
    emit.launch(
      { name: `custom: ${body}`, label: "custom", params: {}, buffers: [reads("x"), writes("out")], body: () => body },
      [x!, out!],
      [],
      [1],
    ),
})

const double = "@compute @workgroup_size(4) fn main(@builtin(local_invocation_index) i: u32) { out[i] = 2.0 * x[i]; }"
const run = (gpu: Gpu, body: string): Tensor => applyFusedOne(opOf(body), [gpu.tensor([1, 2, 3])], undefined)

describe("a kernel that WGSL refuses", () => {
  test("is a ValidationError that shows the kernel's name, the reason and the code; the device works on", async () => {
    const gpu = await openDevice()
    const failure = await run(gpu, double.replace("x[i]", "y[i]"))
      .data()
      .catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(ValidationError)
    expect((failure as ValidationError).operation).toBe("custom")
    expect((failure as ValidationError).message).toMatch(/unresolved value 'y'/)
    expect((failure as ValidationError).message).toContain("2.0 * y[i]")
    expect([...(await run(gpu, double).data())]).toEqual([2, 4, 6])
    expect([...(await gpu.tensor([1]).add(1).data())]).toEqual([2])
    gpu.destroy()
  })
})

test("a tensor larger than a kernel can reach is refused before anything runs", async () => {
  const gpu = await openDevice()
  const rows = gpu.traits.maxBindingSize / 4096 + 1
  const wide = gpu.tensor([1]).reshape([1, 1]).broadcastTo([rows, 1024])
  expect(() => gpu.realize([wide])).toThrow(OutOfMemoryError)
  expect(() => gpu.realize([wide])).toThrow(`more than the adapter's ${gpu.traits.maxBindingSize}`)
  gpu.destroy()
})

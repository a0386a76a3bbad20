import { perItem, reads, writes, type Kernel } from "../program/kernel.ts"

/** target += value, four elements an invocation. */
export const accumulateKernel: Kernel = {
  name: "accumulate",
  params: { items: "u32" },
  buffers: [reads("value", "vec4f"), writes("target_", "vec4f")],
  body: () => `${perItem(64, "p.items")}
  target_[i] = target_[i] + value[i];
}`,
}

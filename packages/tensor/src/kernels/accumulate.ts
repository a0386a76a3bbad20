import { perItem, reads, writes, type Kernel } from "../program/kernel.ts"

/** target += value, four elements an invocation. What lies behind the last element stays as it is. */
export const accumulateKernel: Kernel = {
  name: "accumulate",
  params: { size: "u32" },
  buffers: [reads("value", "vec4f"), writes("target_", "vec4f")],
  body: () => `${perItem(64, "(p.size + 3u) / 4u")}
  let inside = vec4u(i * 4u) + vec4u(0u, 1u, 2u, 3u) < vec4u(p.size);
  target_[i] = target_[i] + select(vec4f(), value[i], inside);
}`,
}

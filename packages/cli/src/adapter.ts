import type { AdapterInfo } from "@rlpt/tensor"

/** `Apple M3 (Metal)`, or whatever the driver tells. */
export const adapterName = ({ driver, kind, name }: AdapterInfo): string => {
  const software = { gpu: driver, lavapipe: "Mesa lavapipe, software", swiftshader: "SwiftShader, software" }[kind]
  return software === "" || software === name ? name : `${name} (${software})`
}

/** What to know of an adapter that is no GPU. */
export const softwareWarning = ({ isSoftware, skipped }: AdapterInfo): string | undefined => {
  if (!isSoftware) return undefined
  const reason = skipped.find(({ kind }) => kind === "gpu")?.reason
  return `a CPU does the work of a GPU, many times slower${reason === undefined ? "" : `: ${reason}`}`
}

import type { Program } from "../program/program.ts"

/** The kernels that a computation becomes. `toString()` lists them. */
export interface Explanation {
  /** Kernel launches of one call. */
  readonly launches: number
  /** What each of them does, in their order. */
  readonly kernels: readonly string[]
  /** Bytes of intermediates after planning. */
  readonly workspaceBytes: number
  readonly toString: () => string
}

export const explanationOf = ({
  launches,
  kernels,
  workspaceBytes,
}: Pick<Program, "launches" | "kernels" | "workspaceBytes">): Explanation => ({
  launches,
  kernels,
  workspaceBytes,
  toString: () => {
    const places = String(launches).length
    const lines = kernels.map((kernel, i) => `${String(i + 1).padStart(places)}  ${kernel}`)
    return [...lines, `${launches} ${launches === 1 ? "launch" : "launches"}, ${workspaceBytes} B of workspace`].join(
      "\n",
    )
  },
})

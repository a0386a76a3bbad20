import { version } from "../version.ts"
import { formatCount } from "./format.ts"

export interface HeaderFacts {
  readonly adapter: string
  readonly task: string
  readonly algorithm: string
  readonly parameters: number
  readonly trainable: number
  readonly run: string
}

/** `rlpt 0.1.0 · Apple M3 (Metal) · arithmetic · GRPO · 0.80 M parameters · run quiet-otter`. */
export const header = ({ adapter, algorithm, parameters, run, task, trainable }: HeaderFacts): string =>
  [
    `rlpt ${version}`,
    adapter,
    task,
    algorithm.toUpperCase(),
    `${formatCount(parameters)} parameters${trainable === parameters ? "" : ` (${formatCount(trainable)} trained)`}`,
    `run ${run}`,
  ].join(" · ")

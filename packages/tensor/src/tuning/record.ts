import type { AdapterInfo } from "../adapter/info.ts"
import { cores } from "../device/traits.ts"
import type { WrongKernel } from "../device/self-test.ts"
import type { Forms } from "../graph/fused-op.ts"
import { problemClasses, type Candidate, type Rating, type Ratings } from "../kernels/matmul/choice.ts"
import { wgsl, type Kernel } from "../program/kernel.ts"

/** How fast matrix kernels are on an adapter, and which forms of other kernels are the fastest. */
export interface Measured {
  readonly ratings: Ratings
  readonly forms: Forms
}

/** What is remembered of an adapter. */
export interface TuningRecord {
  /** Absent where nothing was measured. */
  readonly measured: Measured | undefined
  readonly wrong: readonly WrongKernel[]
}

/** What a record holds for: one adapter, its driver, and the text of every kernel; on a CPU also which, and its cores. */
export interface Identity {
  /** Names the record. */
  readonly name: string
  /** What must be in it, to the letter. */
  readonly text: string
}

const sha256 = async (text: string): Promise<string> => {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("")
}

/** A change to any candidate's text makes what was measured of it void. */
const kernelTexts = (candidates: readonly Candidate[]): string =>
  candidates
    .flatMap(({ id, launch }) =>
      (["nn", "nt", "tn"] as const).map((layout) => {
        const { kernel } = launch({ layout, epilogue: "store", M: 64, N: 64, K: 64 })
        return `${id}\n${wgsl(kernel)}`
      }),
    )
    .join("\n")

/** `others` are the kernels that decide on forms. */
export const identityOf = async (
  adapter: AdapterInfo,
  candidates: readonly Candidate[],
  others: readonly Kernel[],
): Promise<Identity> => {
  const { vendor, architecture, name, driver, subgroupMinSize, subgroupMaxSize, isSoftware, processor } = adapter
  const kernels = await sha256([kernelTexts(candidates), ...others.map(wgsl)].join("\n"))
  const text = JSON.stringify({
    vendor,
    architecture,
    name,
    driver,
    subgroupMinSize,
    subgroupMaxSize,
    ...(isSoftware && { processor, cores: cores() }),
    kernels,
  })
  return { name: `tuning-${(await sha256(text)).slice(0, 16)}.json`, text }
}

export const writeRecord = ({ text }: Identity, { measured, wrong }: TuningRecord): string =>
  `${JSON.stringify({ identity: text, ...measured, wrong }, undefined, 2)}\n`

/** The record in `text`; `undefined` if it is damaged, or that of something else. */
export const readRecord = (
  text: string,
  { text: identity }: Identity,
  candidates: readonly Candidate[],
): TuningRecord | undefined => {
  let record: unknown
  try {
    record = JSON.parse(text)
  } catch {
    return undefined
  }
  if (!isObject(record) || record["identity"] !== identity) return undefined
  const ids = new Set(candidates.map(({ id }) => id))
  const { ratings, forms, wrong } = record
  if (!Array.isArray(wrong) || !wrong.every(isWrong)) return undefined
  if (ratings === undefined) return { measured: undefined, wrong }
  if (!areRatings(ratings, ids) || !areForms(forms)) return undefined
  return { measured: { ratings, forms }, wrong }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isWrong = (value: unknown): value is WrongKernel =>
  isObject(value) &&
  typeof value["kernel"] === "string" &&
  typeof value["reason"] === "string" &&
  typeof value["candidate"] === "string"

const isSpeed = (value: unknown): boolean => typeof value === "number" && Number.isFinite(value) && value > 0

const isRating = (value: unknown): value is Rating =>
  isObject(value) && isSpeed(value["alone"]) && isSpeed(value["together"])

const known: Readonly<Record<keyof Forms, readonly unknown[]>> = {
  rows: ["held", "walked"],
  attention: ["subgroup", "workgroup", "invocation"],
}

const areForms = (value: unknown): value is Forms =>
  isObject(value) && Object.entries(known).every(([name, forms]) => forms.includes(value[name]))

const areRatings = (value: unknown, ids: ReadonlySet<string>): value is Ratings =>
  isObject(value) &&
  problemClasses.every((of) => {
    const rated = value[of]
    return isObject(rated) && Object.entries(rated).every(([id, rating]) => ids.has(id) && isRating(rating))
  })

import type { DeviceTraits } from "../../graph/fused-op.ts"
import { blockOf, blocksOfGroup, type RowKernel } from "./kernel.ts"

/** How rows are shared out. */
export interface RowForm {
  /**
   * Who works on a row: an invocation; a lane, whose subgroup maps its rows together, so that neighbours write neighbouring
   * elements; a workgroup; or a workgroup whose invocations hold a block each in registers.
   */
  readonly by: "invocation" | "lane" | "workgroup" | "holders"
  /** Invocations of a workgroup. */
  readonly threads: number
  /** Elements are loaded four at a time. */
  readonly vector: boolean
  /** Lanes of the subgroups that hold a group of blocks each; 0 where holders share what they found in workgroup memory. */
  readonly lanes?: number
  /** The row fills all that its holders hold. */
  readonly whole?: boolean
}

/** Elements that an invocation holds: with more, a CPU's cache of instructions has no room for the text. */
export const heldBlock = 32
const mostHolders = 256
/** Those that share what they hold: WebGPU promises 16 KiB of workgroup memory. */
const mostSharing = 96

/** Rows from which on a software driver's lanes are busy with a row each. */
const enoughRows = 16

type FormTraits = Pick<DeviceTraits, "isSoftware" | "subgroupSize" | "numbersSubgroups" | "forms">

/** The form for rows of `width` elements. Only speed depends on it. */
export const rowForm = (kernel: RowKernel, rows: number, width: number, device: FormTraits): RowForm => {
  const { isSoftware, subgroupSize } = device
  const held = device.forms.rows === "held" ? holders(kernel, width, device) : undefined
  if (held) return held
  const vector = width % 4 === 0
  const blocks = Math.ceil(width / blockOf(kernel))
  const alone = isSoftware ? rows >= enoughRows || blocks < 8 : blocks < 2
  if (!alone) return { by: "workgroup", threads: blocks > 128 ? 256 : 64, vector }
  return isSoftware && subgroupSize > 0
    ? { by: "lane", threads: subgroupSize, vector }
    : { by: "invocation", threads: 64, vector }
}

/** The holders of a row, if the kernel allows them and the row is neither short nor longer than all of them can hold. */
const holders = (kernel: RowKernel, width: number, device: FormTraits): RowForm | undefined => {
  const { isSoftware, subgroupSize, numbersSubgroups } = device
  const lanes = isSoftware && numbersSubgroups && subgroupSize === blocksOfGroup(kernel) ? subgroupSize : 0
  const together = lanes > 0 ? lanes : 32
  const threads = Math.ceil(width / heldBlock / together) * together
  if (!canHold(kernel) || width % 4 !== 0 || width < 4 * heldBlock || threads > (lanes > 0 ? mostHolders : mostSharing))
    return undefined
  return { by: "holders", threads, vector: true, lanes, whole: width === threads * heldBlock }
}

const canHold = (kernel: RowKernel): boolean => kernel.value !== undefined && blockOf(kernel) === heldBlock

/** Says what the text of a kernel depends on. */
export const formName = ({ by, threads, vector, lanes, whole }: RowForm): string =>
  by === "holders"
    ? `held by ${threads}${lanes ? `, subgroups of ${lanes}` : ""}${whole ? "" : ", not filled"}`
    : `${by} of ${threads} a row${vector ? ", by fours" : ""}`

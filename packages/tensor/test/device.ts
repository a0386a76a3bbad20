import { openDevice, type Gpu } from "../src/index.ts"

const shared = globalThis as { __rlptTestDevice?: Promise<Gpu> }

/** The one device of this test process, on the adapter that `RLPT_ADAPTER` names or the ladder finds. */
export const testDevice = (): Promise<Gpu> => (shared.__rlptTestDevice ??= openDevice())

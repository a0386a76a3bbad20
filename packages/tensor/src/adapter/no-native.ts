import { AdapterError } from "./error.ts"

/** Stands in browsers for the module that opens Dawn, so that bundles hold no native code. Throws {@link AdapterError}. */
export function openNativeGpu(): Promise<never> {
  throw new AdapterError("This bundle is for browsers: Bun and Node need one without the condition `browser`.")
}

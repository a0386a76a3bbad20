import { defineReward } from "@rlpt/core"
import { FormatOptions } from "./options.ts"
import { hasTags } from "./tags.ts"

/** 1 if the completion keeps to the format, else 0. */
export default defineReward({
  name: "format",
  options: FormatOptions,
  make: ({ pattern, tags = [] }) => {
    const expression = pattern === undefined ? undefined : new RegExp(pattern, "u")
    const keepsTo = (completion: string) => expression?.test(completion) ?? hasTags(completion, tags)
    return ({ completion }) => (keepsTo(completion) ? 1 : 0)
  },
})

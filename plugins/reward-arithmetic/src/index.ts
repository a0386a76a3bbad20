import { defineReward } from "@rlpt/core"

/** 1 if the completion, white space around it aside, is the row's `answer`, else 0. */
export default defineReward({
  name: "arithmetic",
  score: ({ completion, columns: { answer } }) => {
    if (typeof answer !== "string" && typeof answer !== "number") {
      throw new Error(`the row has no text or number in the column "answer" to compare the completion with`)
    }
    return completion.trim() === String(answer).trim() ? 1 : 0
  },
})

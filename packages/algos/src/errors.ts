import { Schema } from "effect"

/** A run cannot go on, for a reason that its user can change: the message says what and where. */
export class TrainError extends Schema.TaggedError<TrainError>()("TrainError", {
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

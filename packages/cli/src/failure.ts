import { Cause, Predicate, Schema } from "effect"

/** Something that the user of the command line can mend, in one message. */
export class CliFailure extends Schema.TaggedError<CliFailure>()("CliFailure", { message: Schema.String }) {}

/**
 * What to tell of a failure: the message of an error that we know, without stack. Anything else is a bug of ours, and is
 * said to be one. Nothing for an interruption (Ctrl-C), which its cause knows of already.
 */
export const failureMessage = (cause: Cause.Cause<unknown>): string | undefined => {
  if (Cause.hasInterruptsOnly(cause)) return undefined
  const failure = cause.reasons.find(Cause.isFailReason)
  if (failure !== undefined) return messageOf(failure.error)
  const message = messageOf(Cause.squash(cause))
  return `this is a bug in rlpt: ${message}\nRun it again with --log-level debug to see where, and please report it.`
}

const messageOf = (error: unknown): string =>
  Predicate.hasProperty(error, "message") && error.message !== "" ? String(error.message) : String(error)

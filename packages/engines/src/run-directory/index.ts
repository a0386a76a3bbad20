export { combinedTracker } from "./combined-tracker.ts"
export { RunDirectoryError } from "./error.ts"
export { createRun, openRun, writeConfig, type CreateRun, type RunDirectory } from "./run-directory.ts"
export { runNameProblem } from "./run-name.ts"

package pod

// Place is the folder that a pod directory is in. It says how far the pod has
// come; a pod only moves forward, in the order of the constants.
type Place int

// The places, in the order of a pod's life.
const (
	InEmbryo        Place = iota // being made: exists so that mkdir and lock are one step for others
	InPrepare                    // stage0 is writing the contract
	InPrepared                   // complete and on disk, may be run at any time
	InRun                        // handed to stage1
	InExitedGarbage              // over, kept for the grace period
	InGarbage                    // to be deleted
	places
)

var placeNames = [places]string{"embryo", "prepare", "prepared", "run", "exited-garbage", "garbage"}

// String returns the name of the folder.
func (p Place) String() string { return placeNames[p] }

// State is what a pod is doing, computed from its place, its lock and whether
// anything of it is alive. The text forms are part of the JSON output.
type State string

// The states.
const (
	Embryo        State = "embryo"         // being created
	Preparing     State = "preparing"      // stage0 writes its contract
	Aborted       State = "aborted"        // the preparation ended before it was complete
	Prepared      State = "prepared"       // may be run
	Running       State = "running"        // its supervisor is alive
	Orphaned      State = "orphaned"       // its supervisor is gone, some of its processes are not
	Exited        State = "exited"         // over
	ExitedGarbage State = "exited-garbage" // over and marked by gc
	Garbage       State = "garbage"        // to be deleted by the next gc
	Deleting      State = "deleting"       // being deleted
)

// stateOf is the one place where the state of a pod is decided. alive is asked
// only where it matters.
func stateOf(place Place, holder Holder, alive func() (bool, error)) (State, error) {
	switch place {
	case InEmbryo:
		return Embryo, nil
	case InPrepare:
		if holder == Runner {
			return Preparing, nil
		}
		return Aborted, nil
	case InPrepared:
		return Prepared, nil
	case InRun:
		if holder == Runner {
			return Running, nil
		}
	default:
		if holder != Nobody {
			return Deleting, nil
		}
	}
	live, err := alive()
	switch {
	case err != nil:
		return "", err
	case live:
		// Also for a pod that gc has marked: nothing alive is garbage.
		return Orphaned, nil
	case place == InRun:
		return Exited, nil
	case place == InExitedGarbage:
		return ExitedGarbage, nil
	}
	return Garbage, nil
}

// Over reports whether the pod has ended or never began, so that nothing stands
// in the way of its removal.
func (s State) Over() bool {
	switch s {
	case Aborted, Exited, ExitedGarbage, Garbage:
		return true
	}
	return false
}

// AppState is what an app of a pod is doing.
type AppState string

// The states of an app.
const (
	AppCreated  AppState = "created"  // not started
	AppRunning  AppState = "running"  // started, and supervised
	AppOrphaned AppState = "orphaned" // alive without its supervisor
	AppExited   AppState = "exited"   // over; its status is known when it left an exit record
)

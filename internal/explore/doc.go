// Package explore takes real database sessions through interleavings that a test chooses.
//
// The functions under test are taken as they are installed and get gates between their steps ([Install]). A gate tells
// the session's client where it stands and then waits for a lock that the [Director] holds: nothing runs but the actor
// whose gate the director opens. What a session does between two gates is its step, named after the gate it leaves. A
// client has gates too, before a commit, say ([Actor.Pause]). A session that waits for another one's row is noticed as
// blocked, and goes on by itself when that one has ended.
//
// A gate is a statement of its own that reads and writes no table, so it changes no snapshot and no lock of the code
// around it; its advisory locks are of a class that no other code has.
//
// [Interleavings] lists the orders of the actors' steps; [Shrink] makes one that failed short enough to be read.
package explore

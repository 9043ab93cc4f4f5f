// Package synthetic makes the log of a platform that never was: users who sign up and leave, projects, personas that are edited,
// discussions and surveys, with what real logs have too: quiet weekends, turns without a project or a duration, personas that
// are mentioned before they are introduced, or never are, and events that are recorded days after they occurred. The same
// [Config] gives the same events. It holds a few days of events at a time, however many there are.
package synthetic

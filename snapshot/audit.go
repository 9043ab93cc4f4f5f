package snapshot

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
)

// Audited is the report of [Loader.Audit].
type Audited struct {
	Fold            string
	Version, Format int
	// Checked is how many snapshots were compared with a fold from zero; Unusable how many were damaged, and deleted.
	Checked, Unusable int
	// Lies are those that another state comes out of. With any, the fold's version is in quarantine.
	Lies []Lie
	// Quarantined says that the fold's version is in quarantine, by this audit or an earlier one.
	Quarantined bool
}

// Lie is a snapshot that does not hold what a fold from zero gives: Fold was changed and its Version was not raised, it is not
// deterministic, or the state loses something in its JSON.
type Lie struct {
	StreamID eventstore.StreamID
	// Snapshot is the version that the snapshot was written at, Version that at which the states were compared: the same,
	// or the stream's last one.
	Snapshot, Version eventstore.Version
	// Changes make the state with the snapshot that without.
	Changes []Change
}

// Audit folds a random sample of the streams that have snapshots from zero, and compares the state at the snapshot, and the
// one at the stream's end, with what the snapshot leads to. Where they differ, the fold's version and format are put in
// quarantine: no snapshot of them is read or written any more, by any process, and each load folds from zero; raise
// Fold.Version once the fold is right again. The error is that of reading or of Apply; what was found up to then is reported.
func (l *Loader[S]) Audit(ctx context.Context, sample int) (Audited, error) {
	report := Audited{Fold: l.fold.Name, Version: l.fold.Version, Format: l.fold.Format}
	if sample < 1 {
		return report, &eventstore.InvalidError{Index: -1, Field: "sample", Reason: fmt.Sprintf("is %d", sample)}
	}
	rows, err := l.store.Pool().Query(ctx, l.sql["sample"], l.fold.Name, l.fold.Version, l.fold.Format, sample)
	if err != nil {
		return report, fmt.Errorf("auditing snapshots: %w", explained(err))
	}
	snapshots, err := pgx.CollectRows(rows, pgx.RowToStructByPos[foundSnapshot])
	for i := 0; i < len(snapshots) && err == nil; i++ {
		err = l.audit(ctx, snapshots[i], &report)
	}
	if len(report.Lies) > 0 { // whatever went wrong besides
		lie := report.Lies[0]
		reason := fmt.Sprintf("%s at version %d: %s", lie.StreamID, lie.Version, lie.Changes[0])
		_, failed := l.store.Pool().Exec(ctx, l.sql["quarantine"], l.fold.Name, l.fold.Version, l.fold.Format, reason)
		err = errors.Join(err, failed)
		l.config.Logger.ErrorContext(ctx, "snapshots are in quarantine", "fold", l.fold.Name, "version", l.fold.Version, "reason", reason)
	}
	quarantined, failed := l.quarantined(ctx)
	report.Quarantined = quarantined
	if err = errors.Join(err, failed); err != nil {
		return report, fmt.Errorf("auditing snapshots: %w", explained(err))
	}
	return report, nil
}

// ErrQuarantined is returned where a snapshot is asked for whose fold, version and format are in quarantine.
var ErrQuarantined = errors.New("snapshots of this fold's version are in quarantine")

func (l *Loader[S]) quarantined(ctx context.Context) (found bool, err error) {
	err = l.store.Pool().QueryRow(ctx, l.sql["quarantined"], l.fold.Name, l.fold.Version, l.fold.Format).Scan(&found)
	return found, err
}

// audit folds one stream twice at once: from zero, and, from the snapshot's version on, from the snapshot.
func (l *Loader[S]) audit(ctx context.Context, row foundSnapshot, report *Audited) error {
	start := l.begin(row)
	useless := func(why *unusableError) {
		report.Unusable++
		l.ignore(ctx, start, why)
	}
	var err error
	if start.State, err = l.decode(&row); err != nil {
		var unusable *unusableError
		errors.As(err, &unusable) // it is nothing else
		useless(unusable)
		return nil
	}
	whole, short := l.zero(start.StreamID), start
	same := func() (bool, error) {
		changes, err := Diff(short.State, whole.State)
		if err == nil && len(changes) > 0 {
			report.Lies = append(report.Lies, Lie{start.StreamID, start.Version, whole.Version, changes})
		}
		return len(changes) == 0, err
	}
	for event, err := range l.store.Stream(ctx, start.StreamID, 0) {
		if err == nil {
			err = l.apply(&whole, event)
		}
		if err == nil && event.Version > start.Version {
			err = l.apply(&short, event)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", start.StreamID, err)
		}
		if event.Version != start.Version {
			continue
		}
		if event.ID != start.last.ID {
			useless(moved())
			return nil
		}
		if ok, err := same(); err != nil || !ok {
			report.Checked++
			return err
		}
	}
	if whole.Version < start.Version { // the stream of an older copy of the log
		useless(moved())
		return nil
	}
	report.Checked++
	_, err = same()
	return err
}

// Prune deletes the snapshots of earlier versions and formats of the fold, and those that are in quarantine, a thousand at a
// time, and returns how many. Programs that still run an earlier version fold from zero afterwards.
func (l *Loader[S]) Prune(ctx context.Context) (int64, error) {
	var total int64
	for {
		tag, err := l.store.Pool().Exec(ctx, l.sql["prune"], l.fold.Name, l.fold.Version, l.fold.Format)
		if err != nil {
			return total, fmt.Errorf("deleting old snapshots: %w", explained(err))
		}
		if total += tag.RowsAffected(); tag.RowsAffected() < 1000 {
			return total, nil
		}
	}
}

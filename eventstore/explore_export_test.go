package eventstore

import "context"

// AppendAsGroup runs the statement that a lane runs for several callers. The receipt of an append that it leaves out is nil.
func (s *Store) AppendAsGroup(ctx context.Context, appends ...StreamAppend) ([]*Receipt, error) {
	requests, err := s.prepareMany(ctx, appends)
	if err != nil {
		return nil, err
	}
	return s.appendGroup(ctx, requests)
}

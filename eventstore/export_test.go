package eventstore

// SetFilteredScan shortens the windows of filtered reads, so that a small log has many.
func (s *Store) SetFilteredScan(positions Position) { s.filteredScan = positions }

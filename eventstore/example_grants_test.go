package eventstore_test

import (
	"fmt"
	"strings"

	"github.com/sight-platform/hindsight/eventstore"
)

// A service connects as a role that can append and read, and do nothing else. An administrator gets the SQL; a program
// that may do so calls store.Grant(ctx, "surveys", eventstore.Appender) after Migrate.
func ExampleGrants() {
	for role, access := range map[string]eventstore.Access{"surveys": eventstore.Appender, "reports": eventstore.Reader} {
		sql, err := eventstore.Grants(eventstore.DefaultSchema, role, access)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(strings.SplitN(sql, "\n", 2)[0])
	}
	// Unordered output:
	// -- Role "surveys" as appender of the log in schema "hindsight": gives it those rights, and takes away the rest.
	// -- Role "reports" as reader of the log in schema "hindsight": gives it those rights, and takes away the rest.
}

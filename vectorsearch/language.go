package vectorsearch

import (
	"slices"
	"strings"
)

// stemmed are the languages that every PostgreSQL from 15 on has a stemmer for.
func stemmed() map[string]string {
	return map[string]string{
		"ar": "arabic", "hy": "armenian", "eu": "basque", "ca": "catalan", "da": "danish", "nl": "dutch", "en": "english", "fi": "finnish",
		"fr": "french", "de": "german", "el": "greek", "hi": "hindi", "hu": "hungarian", "id": "indonesian", "ga": "irish", "it": "italian",
		"lt": "lithuanian", "ne": "nepali", "no": "norwegian", "pt": "portuguese", "ro": "romanian",
		"ru": "russian", "sr": "serbian", "es": "spanish", "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish",
	}
}

// polish has no stemmer in PostgreSQL: Migrate makes a text search configuration of this name in the log's schema, over the
// hunspell dictionary where the server has it.
const polish = "search_polish"

// baseLanguage is what a BCP 47 tag begins with.
func baseLanguage(tag string) string {
	base, _, _ := strings.Cut(strings.ToLower(tag), "-")
	base, _, _ = strings.Cut(base, "_")
	if base == "nb" || base == "nn" { // written Norwegian, of which there is one dictionary
		return "no"
	}
	return base
}

// configOf is the quoted text search configuration of a language.
func (x *Index) configOf(language string) string {
	base := baseLanguage(language)
	if base == "pl" {
		return literal(x.quote(polish))
	}
	if name, ok := stemmed()[base]; ok {
		return literal("pg_catalog." + name)
	}
	return literal("pg_catalog.simple")
}

// configSQL chooses the configuration by the column language.
func (x *Index) configSQL() string {
	var out strings.Builder
	out.WriteString("CASE language")
	languages := []string{"pl"}
	for language := range stemmed() {
		languages = append(languages, language)
	}
	slices.Sort(languages)
	for _, language := range languages {
		out.WriteString(" WHEN " + literal(language) + " THEN " + x.configOf(language) + "::regconfig")
	}
	out.WriteString(" ELSE 'pg_catalog.simple'::regconfig END")
	return out.String()
}

// polishSQL makes the configuration for Polish: by the ispell dictionary where its files are there, else words as they are, of
// which queries ask for the beginnings.
const polishSQL = `
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace WHERE n.nspname = {{schema_literal}} AND c.cfgname = 'search_polish') THEN
        RETURN;
    END IF;
    CREATE TEXT SEARCH CONFIGURATION {{schema}}.search_polish (COPY = pg_catalog.simple);
    BEGIN
        CREATE TEXT SEARCH DICTIONARY {{schema}}.search_polish_ispell (TEMPLATE = ispell, DictFile = pl_pl, AffFile = pl_pl);
        ALTER TEXT SEARCH CONFIGURATION {{schema}}.search_polish
            ALTER MAPPING FOR asciiword, asciihword, hword_asciipart, word, hword, hword_part WITH {{schema}}.search_polish_ispell, pg_catalog.simple;
    EXCEPTION WHEN OTHERS THEN
        NULL; -- the server has no such dictionary
    END;
END $$`

// polishStopWords say nothing: neither hunspell's dictionary nor PostgreSQL has a list of such words.
func polishStopWords() []string {
	return strings.Fields("a aby albo ale bez bo by był była było były być co czy dla do gdy go i ich im ja jak jako jego jej jest jeszcze jeśli już " +
		"ją każdy kiedy kto która które którego której który których którym lub ma mam mi mnie mieć może można mu my na nad nam nas nic nich nie nim niż " +
		"no o od on ona one oni ono oraz pan pani po pod przed przez przy się skąd ta tak także tam te tego tej ten też to tu tych tylko tym u w was we " +
		"więc właśnie wy z za ze że żeby")
}

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

package dwssim

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// directive is one parsed #DW line.
type directive struct {
	text    string
	command string
	args    map[string]string
}

// errPanic is in the errors that the real webhook does not refuse: it panics, and the API server
// only sees the connection die.
var errPanic = errors.New("DWS panics")

// errBlankDirective is a #DW line without a command.
var errBlankDirective = fmt.Errorf("blank directive: %w", errPanic)

// rule says which arguments a command takes and which driver then works in which states.
type rule struct {
	driverID    string
	watchStates []string
	// delayed is the one state that delay is for; empty means all of watchStates.
	delayed   string
	arguments []argument
}

// argument is one that a command takes. The first whose key matches counts.
type argument struct {
	key      string // a regular expression, as in the rules of DWS
	required bool
	pattern  string   // of the value; empty takes any
	words    []string // if set, the value is a list of these, separated by commas
	unique   string   // if set, no two directives of a Workflow may have the same value in it
	check    func(value string) error
}

// simulated are the arguments that only this DWS knows: the real one refuses them.
var simulated = []argument{{key: "^delay$", check: checkDuration}}

// rules are the whole ruleset: the test driver's commands, one for each state, and those of the
// public provider, NNF.
var rules = func() map[string]rule {
	const name = `^[a-z][a-z0-9-]+$`
	fileSystem := argument{key: "^type$", required: true, pattern: `^(raw|xfs|gfs2|lustre)$`}
	capacity := argument{key: "^capacity$", pattern: `^\d+(KiB|KB|MiB|MB|GiB|GB|TiB|TB)$`}
	needed := func(a argument) argument { a.required = true; return a }
	named := func(unique string) argument {
		return argument{key: "^name$", required: true, pattern: name, unique: unique}
	}
	profile := argument{key: "^profile$", pattern: name}
	requires := argument{key: "^requires$", words: []string{"copy-offload", "user-container-auth"}}
	ends := []argument{{key: "^source$", required: true}, {key: "^destination$", required: true}, profile}
	used := []string{Proposal, Setup, PreRun, PostRun, Teardown}
	all := map[string]rule{
		"jobdw": {watchStates: used, arguments: []argument{fileSystem, needed(capacity), named("jobdw_name"), profile, requires}},
		// Whether it needs a capacity depends on the profile, which admission does not see.
		"create_persistent": {watchStates: []string{Proposal, Setup, Teardown},
			arguments: []argument{fileSystem, capacity, named("create_persistent_name"), profile}},
		"destroy_persistent": {watchStates: []string{Proposal, Teardown}, arguments: []argument{named("destroy_persistent_name")}},
		"persistentdw":       {watchStates: used, arguments: []argument{named(""), requires}},
		"copy_in":            {watchStates: []string{Proposal, DataIn, Teardown}, delayed: DataIn, arguments: ends},
		"copy_out":           {watchStates: []string{Proposal, DataOut, Teardown}, delayed: DataOut, arguments: ends},
		"container": {watchStates: used, arguments: []argument{named(""), needed(profile),
			{key: `^(DW_JOB_|DW_PERSISTENT_|DW_GLOBAL_)[a-z][a-z0-9_]+$`}}},
	}
	for command, r := range all {
		r.driverID, r.arguments = "nnf", slices.Concat(r.arguments, simulated)
		all[command] = r
	}
	for _, state := range States {
		all[state] = rule{driverID: "tester", watchStates: []string{state}, arguments: slices.Concat([]argument{
			{key: "action", required: true}, {key: "message"}, {key: "severity"}, {key: "^env$", check: checkEnv},
		}, simulated)}
	}
	return all
}()

// noValue is the value of an argument without an equal sign.
const noValue = "\x00"

// parseDirective splits a line as DWS does: at white space, key=value, no quotes.
func parseDirective(text string) (*directive, error) {
	words := strings.Fields(text)
	if len(words) == 0 || words[0] != "#DW" {
		return nil, fmt.Errorf("missing '#DW' prefix in directive '%s'", text)
	}
	if len(words) == 1 {
		return nil, errBlankDirective
	}
	// DWS keeps the command among the arguments.
	parsed := &directive{text: text, command: words[1], args: map[string]string{"command": words[1]}}
	for _, word := range words[2:] {
		key, value, found := strings.Cut(word, "=")
		if _, repeated := parsed.args[key]; repeated {
			return nil, fmt.Errorf("repeated argument '%s' in directive '%s'", key, text)
		}
		if !found {
			value = noValue
		}
		parsed.args[key] = value
	}
	delete(parsed.args, "command")
	return parsed, nil
}

// check judges a directive by the rule of its command. seen are the values that must be unique,
// of the directives before it.
func (d *directive) check(seen map[string]bool) error {
	rule, known := rules[d.command]
	if !known {
		return fmt.Errorf("invalid directive '%s'", d.text)
	}
	met := map[string]bool{}
	for _, key := range sortedKeys(d.args) {
		argument := rule.argument(key)
		if argument == nil {
			return fmt.Errorf("unsupported argument '%s'", key)
		}
		value := d.args[key]
		if err := argument.judge(key, value); err != nil {
			return err
		}
		if argument.unique != "" {
			if seen[argument.unique+"/"+value] {
				return fmt.Errorf("value '%s' must be unique within '%s'", value, argument.unique)
			}
			seen[argument.unique+"/"+value] = true
		}
		met[argument.key] = true
	}
	for _, argument := range rule.arguments {
		if argument.required && !met[argument.key] {
			return fmt.Errorf("missing required argument '%s'", argument.key)
		}
	}
	return nil
}

// argument is the one that a key of a directive means; nil if there is none.
func (r rule) argument(key string) *argument {
	for i := range r.arguments {
		if regexp.MustCompile(r.arguments[i].key).MatchString(key) {
			return &r.arguments[i]
		}
	}
	return nil
}

// judge refuses a value, in the words of DWS.
func (a *argument) judge(key, value string) error {
	if value == noValue {
		return fmt.Errorf("argument '%s' requires value", key)
	}
	if a.words != nil {
		return judgeList(key, value, a.words)
	}
	if !regexp.MustCompile(a.pattern).MatchString(value) || a.check != nil && a.check(value) != nil {
		return fmt.Errorf("argument '%s' invalid string '%s'", key, value)
	}
	return nil
}

func judgeList(key, list string, words []string) error {
	given := strings.Split(list, ",")
	for _, word := range given {
		if !slices.Contains(words, word) {
			return fmt.Errorf("argument '%s' invalid string '%s' in list '%s'", key, word, list)
		}
	}
	for i, word := range given {
		if slices.Contains(given[:i], word) {
			return fmt.Errorf("argument '%s' word '%s' repeated in list '%s'", key, word, list)
		}
	}
	return nil
}

// checkDirectives judges all directives of a Workflow; the first bad one counts.
func checkDirectives(texts []string) ([]*directive, error) {
	var all []*directive
	seen := map[string]bool{}
	for _, text := range texts {
		parsed, err := parseDirective(text)
		if err != nil {
			return nil, err
		}
		if err := parsed.check(seen); err != nil {
			return nil, err
		}
		all = append(all, parsed)
	}
	return all, nil
}

// delay is how long the driver takes in a state.
func (d *directive) delay(state string) time.Duration {
	if delayed := rules[d.command].delayed; delayed != "" && delayed != state {
		return 0
	}
	delay, _ := time.ParseDuration(d.args["delay"]) // checked at admission; absent is 0
	return delay
}

// userText is the message an error carries; a value cannot hold spaces, so underscores do.
func (d *directive) userText() string {
	return strings.ReplaceAll(d.args["message"], "_", " ")
}

// env is what the driver adds to status.env when state completes.
func (d *directive) env(w *Workflow, index int, state string) map[string]string {
	added := map[string]string{}
	if d.command == "jobdw" {
		if state == PreRun {
			added["DW_JOB_"+strings.ReplaceAll(d.args["name"], "-", "_")] = fmt.Sprintf("/mnt/nnf/%s-%d", w.UID, index)
		}
		return added
	}
	if pairs := d.args["env"]; pairs != "" {
		for _, pair := range strings.Split(pairs, ",") {
			key, value, _ := strings.Cut(pair, ":")
			added[key] = value
		}
	}
	return added
}

func checkDuration(value string) error {
	delay, err := time.ParseDuration(value)
	if err == nil && delay < 0 {
		return errors.New("it is negative")
	}
	return err
}

// checkEnv takes K:V,K2:V2; a value may hold colons, and be empty.
func checkEnv(value string) error {
	for _, pair := range strings.Split(value, ",") {
		if key, _, found := strings.Cut(pair, ":"); !found || !envName.MatchString(key) {
			return fmt.Errorf("'%s' is not NAME:VALUE", pair)
		}
	}
	return nil
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// sortedKeys makes the refusal of a line with two faults always the same.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

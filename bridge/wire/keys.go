package wire

// The keys of a request. Slurm hands every value as text; a key that Slurm's
// version does not know is absent (22.05 gives fewer arguments than 23.02 does,
// see burst_buffer_lua.c). The values of options and variables are the user's words,
// whoever passes them on; all others are Slurm's.
const (
	KeyConfig     = "CONFIG"        // path of slurmk8s.toml; absent: slurmconf.DefaultPath
	KeyStateDir   = "STATE_DIR"     // directory of burst_buffer.lua's local files; must equal state_dir of slurmk8s.toml
	KeyDeadlineMS = "DEADLINE_MS"   // milliseconds that the caller grants; absent: by configuration
	KeyJobID      = "JOB_ID"        // Slurm job id, decimal
	KeyUID        = "UID"           // job owner; in slurm_bb_get_status the one who asks
	KeyGID        = "GID"           // as UID
	KeyUser       = "USER_NAME"     // job owner's name
	KeyAccount    = "ACCOUNT"       // the account that the job asks for or its user's default; may be absent
	KeyGroups     = "GIDS"          // the user's groups as Slurm has them, "100,101"; may be absent
	KeyScript     = "SCRIPT"        // path of the job script
	KeyHurry      = "HURRY"         // "true" when Slurm skips stage-out (scancel --hurry)
	KeyNodes      = "NODES"         // allocated nodes as a hostlist, "c[1-3]"
	KeyRestart    = "RESTART_COUNT" // how often Slurm has requeued the job
	KeySubmitTime = "SUBMIT_TIME"   // Unix seconds
	KeyBusy       = "BUSY"          // "true" when this Slurm understands SLURM_BB_BUSY (24.05 and later)
	KeyArg        = "ARG"           // ARG1, ARG2, ...: the words after `scontrol show bbstat`
	KeyProgram    = "PROGRAM"       // path of the slurmk8s program, which ends a job that can never run

	KeyNode     = "NODE"      // this node, in Slurm's words
	KeyNodeRank = "NODE_RANK" // this node's place in the step, from 0
	KeyStepID   = "STEP_ID"   // "batch", "interactive" or a number
	KeyAction   = "ACTION"    // of a step's later request: ActionDeregister

	KeyRegister  = "K8S_REGISTER"  // --k8s-register
	KeyNamespace = "K8S_NAMESPACE" // --k8s-namespace
	KeyImport    = "K8S_IMPORT"    // --k8s-import
	KeyBundle    = "K8S_BUNDLE"    // --k8s-bundle
	KeyInherited = "INHERITED"     // "1": srun was given no option, but found those in the environment of a task of the job
	KeyImported  = "IMPORTED"      // with INHERITED: the value of --k8s-import whose variables that environment has
	KeyEnv       = "ENV_"          // ENV_NAME: a variable that --k8s-register=env looks at
	KeyWorkflow  = "WORKFLOW"      // "1": the step wants the variables of the job's Workflow; in what a node keeps, its name and UID

	KeyNodesOption  = "K8S_NODES"         // --k8s-nodes
	KeyEvictGrace   = "K8S_EVICT_GRACE"   // --k8s-evict-grace
	KeyEvictTimeout = "K8S_EVICT_TIMEOUT" // --k8s-evict-timeout
	KeyNodeList     = "NODELIST"          // the job's nodes, a hostlist
	KeyArray        = "ARRAY"             // --array as sbatch has it, "0-9:2%4"; absent: the job is no array
	KeyArrayJob     = "ARRAY_JOB_ID"      // the array that the job is a task of; 0: none. In an srun step the
	KeyArrayTask    = "ARRAY_TASK_ID"     // user's word; absent where nobody says
	KeyPartition    = "PARTITION"
	KeyConstraints  = "CONSTRAINTS"
)

// ActionDeregister asks the step program to deregister the step's services.
const ActionDeregister = "deregister"

// The keys of a reply.
const (
	KeyMessage = "MESSAGE" // one line for a person
	KeyText    = "TEXT"    // what the hook was asked for (slurm_bb_get_status), may have several lines
	KeyCode    = "CODE"    // in a frame: a Code
	KeyOver    = "OVER"    // "1": there is nothing to do at the step's end, the program exits
	KeySetEnv  = "SETENV_" // SETENV_NAME=VALUE: for the job's environment
)

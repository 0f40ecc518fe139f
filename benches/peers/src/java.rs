//! How does Apache RocketMQ's own store take part: the official artifact, driven by a Java program of ours?
//!
//! Maven brings the jars into the build folder and `javac` compiles `java/Bench.java`, once. Where Java or Maven is
//! missing, this peer is left out, and the output says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::job::{Flush, Job, Work};

/// A compiled program and the jars it needs.
#[derive(Debug, Clone)]
pub struct Java {
    folder: PathBuf,
}

impl Java {
    /// Fetches and compiles what is not there yet.
    pub fn prepare() -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("java");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/java");
        for program in ["java", "javac", "mvn"] {
            run(Command::new(program).arg("-version")).with_context(|| format!("{program} does not run"))?;
        }
        std::fs::create_dir_all(&folder)?;
        let jars = folder.join("lib");
        if !jars.join("rocketmq-store-5.5.0.jar").exists() {
            let mut maven = Command::new("mvn");
            maven.args(["-q", "-B", "-f"]).arg(source.join("pom.xml")).arg("dependency:copy-dependencies");
            run(maven.arg(format!("-DoutputDirectory={}", jars.display()))).context("fetch the jars")?;
        }
        let java = Self { folder };
        let mut compiler = Command::new("javac");
        compiler.args(["-nowarn", "-cp", &java.class_path(), "-d"]).arg(java.folder.join("classes"));
        run(compiler.arg(source.join("Bench.java"))).context("compile java/Bench.java")?;
        Ok(java)
    }

    /// Whether it does such work.
    pub fn can(work: &Work) -> bool {
        matches!(work, Work::Append { batch: 0, .. } | Work::Read { .. } | Work::Latency { .. })
    }

    pub fn command(&self, job: &Job) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xms1g", "-Xmx2g", "-XX:+UseG1GC", "-cp", &self.class_path()]);
        command.arg(format!("-Duser.home={}", job.dir.display()));
        // The store opens fields of the JDK, as the broker's own start script lets it.
        command.args(["--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED"]);
        command.args([
            "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
            "--add-opens=java.base/java.nio=ALL-UNNAMED",
        ]);
        command.arg("Bench").arg(&job.dir);
        command.arg(if job.flush == Flush::Sync { "sync" } else { "async" }).arg(job.size.to_string());
        match &job.work {
            Work::Append { producers, keyed, budget, .. } => {
                command.args(["append", &producers.to_string(), if *keyed { "keys" } else { "none" }]);
                command.args([budget.messages.to_string(), budget.seconds.to_string()]);
            }
            Work::Read { messages } => {
                command.args(["read", &messages.to_string()]);
            }
            Work::Latency { rate, seconds } => {
                command.args(["latency", &rate.to_string(), &seconds.to_string()]);
            }
            other => {
                command.arg(format!("{other:?}"));
            }
        }
        command
    }

    fn class_path(&self) -> String {
        format!("{}:{}/*", self.folder.join("classes").display(), self.folder.join("lib").display())
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("it failed").to_owned());
    }
    Ok(())
}

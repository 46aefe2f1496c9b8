"""Collect the data files of the emulator."""

from PyInstaller.utils.hooks import collect_data_files

datas = collect_data_files("avaturn_async.emulator", includes=["*.json", "glb/*.toml", "glb/*.tsv"])
